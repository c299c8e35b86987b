#include "train/routing_diagnostics.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <span>

#include "base/random.h"
#include "metrics/rank_correlation.h"
#include "metrics/step_metrics.h"
#include "moe/expert_norms.h"
#include "moe/similarity.h"
#include "ops/host_copy.h"
#include "train/split_batches.h"

// T tokens, E experts, D model width, n sampled tokens of this rank.

namespace switchyard {
namespace {

using at::Tensor;

/// One token out of each run of `stride` tokens of the split, drawn by the run's number.
class TokenSample {
 public:
  TokenSample(int64_t tokens, int64_t wanted)
      : stride_(std::max<int64_t>(1, (tokens + wanted - 1) / wanted)) {}

  bool has(int64_t token) const {
    const auto run = static_cast<uint64_t>(token / stride_);
    return token % stride_ == static_cast<int64_t>(draws_.block(run, 0)[0]) % stride_;
  }

 private:
  int64_t stride_;
  RandomStream draws_{0, "routing diagnostics"};
};

/// Rows of a batch that are in the sample: (n) int64.
Tensor sampled_rows(const DecoderInput& input, int64_t split_length, const TokenSample& sample) {
  const int64_t B = input.tokens_BS.size(0), S = input.tokens_BS.size(1);
  const Tensor valid_BS = input.valid_BS.contiguous(), order_B = input.order_B.contiguous();
  const bool* valid = valid_BS.data_ptr<bool>();
  const int64_t* order = order_B.data_ptr<int64_t>();
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < B * S; ++row) {
    const int64_t token = order[row / S] * split_length + row % S;
    if (valid[row] && sample.has(token)) rows.push_back(row);
  }
  return at::tensor(rows, at::kLong);
}

/// What one layer's pass over the split adds up on this rank.
struct LayerSums {
  Tensor copies_E;  // (E) float64, on the host
  double tokens = 0, routed = 0, dropped = 0, entropy = 0;
  bool has_probs = true, has_scores = true;
  std::vector<Tensor> x_nD;       // of the sampled tokens, batch by batch
  std::vector<Tensor> scores_nE;  // the same, on the host

  void add(const RouterRecord& record, const Tensor& x_TD, const Tensor& host_rows_n) {
    const Tensor copies = record.counts.all_GE.sum(0).cpu();
    copies_E = copies_E.defined() ? copies_E + copies : copies;
    tokens += record.counts.tokens_G.sum().item<double>();
    routed += record.routed_pairs.item<double>();
    dropped += record.dropped_pairs.item<double>();
    has_probs = record.probs_TE.defined();
    if (has_probs) entropy -= at::xlogy(record.probs_TE, record.probs_TE).sum().item<double>();
    const Tensor& scores_TE = record.logits_TE.defined() ? record.logits_TE : record.probs_TE;
    has_scores = scores_TE.defined();
    const Tensor rows_n = copy_to_device(host_rows_n, x_TD.device());
    x_nD.push_back(x_TD.index_select(0, rows_n));
    if (has_scores) scores_nE.push_back(scores_TE.index_select(0, rows_n).to(at::kDouble).cpu());
  }
};

/// Sums of Spearman's correlations and of norms over the sampled tokens of this rank.
struct NormSums {
  double correlation = 0, correlated = 0, sampled = 0;
  Tensor norms_E;  // (E) float64
};

NormSums norm_sums(const LayerSums& layer, const MoeLayer& moe, Communicator& group) {
  const Tensor norms_nE =
      expert_norms(moe.experts(), at::cat(layer.x_nD), group).to(at::kDouble).cpu().contiguous();
  NormSums sums;
  sums.sampled = static_cast<double>(norms_nE.size(0));
  sums.norms_E = norms_nE.sum(0);
  if (!layer.has_scores) return sums;
  const Tensor scores_nE = at::cat(layer.scores_nE).contiguous();
  const auto row_of = [](const Tensor& x_nE, int64_t row) {
    const auto E = static_cast<size_t>(x_nE.size(1));
    return std::span<const double>(x_nE.data_ptr<double>() + static_cast<size_t>(row) * E, E);
  };
  for (int64_t row = 0; row < norms_nE.size(0); ++row) {
    const auto correlation = spearman(row_of(scores_nE, row), row_of(norms_nE, row));
    if (!correlation) continue;
    sums.correlation += *correlation;
    sums.correlated += 1;
  }
  return sums;
}

/// Everything that is a sum over tokens, into the summary: one all-reduce.
void add_token_sums(const LayerSums& layer, const NormSums& norms, Communicator& world,
                    LayerRouting& routing, RoutingSummary& summary) {
  const int64_t E = layer.copies_E.numel();
  Tensor packed = at::cat({layer.copies_E, norms.norms_E,
                           at::tensor({layer.tokens, layer.routed, layer.dropped, layer.entropy,
                                       norms.correlation, norms.correlated, norms.sampled},
                                      at::kDouble)});
  world.all_reduce(packed, ReduceOp::kSum, "sums of the diagnostics");
  const double* x = packed.data_ptr<double>();
  const double *norm = x + E, *rest = x + 2 * E;
  const MoeLayerMetrics load = layer_metrics(routing.layer, std::vector<int64_t>(x, x + E));
  routing.load_E = load.load;
  routing.max_vio = load.max_load - 1;
  for (int64_t e = 0; e < E; ++e) {
    if (x[e] == 0) routing.dead_experts.push_back(e);
    routing.output_norm_E.push_back(norm[e] / std::max(1.0, rest[6]));
  }
  routing.dropped = rest[2] / std::max(1.0, rest[1]);
  if (layer.has_probs) routing.entropy = rest[3] / std::max(1.0, rest[0]);
  if (rest[5] > 0) routing.score_norm_correlation = rest[4] / rest[5];
  routing.correlated_tokens = static_cast<int64_t>(rest[5]);
  summary.tokens = static_cast<int64_t>(rest[0]);
  summary.sampled_tokens = static_cast<int64_t>(rest[6]);
}

/// The weight of a linear router, one row for each expert, or undefined.
Tensor gate_of(const Session& session, int64_t layer) {
  const std::string name = "model.layers." + std::to_string(layer) + ".mlp.gate.weight";
  const std::vector<int64_t> shape = {session.config().moe.num_experts,
                                      session.config().model.hidden_size};
  for (const PlacedPart& placed : session.store().parts()) {
    if (placed.part.name == name && placed.part.shape == shape)
      return session.store().weight_of(placed).detach();
  }
  return {};
}

void add_similarities(const Session& session, LayerRouting& routing) {
  const Tensor gate_ED = gate_of(session, routing.layer);
  if (gate_ED.defined()) {
    if (const auto cosines = row_cosines(gate_ED)) {
      routing.router_mean = cosines->mean;
      routing.router_max = cosines->max;
    }
  }
  const Experts& experts = session.decoder().moe_layer(routing.layer).experts();
  ExpertSimilarity similarity = expert_similarity(experts.matrices(), *session.mesh().expert);
  routing.expert_similarity = similarity.experts;
  routing.matrices = std::move(similarity.matrices);
}

}  // namespace

RoutingSummary diagnose_routing(const Session& session, const RoutingSample& sample) {
  const c10::NoGradGuard no_grad;
  const Decoder& decoder = session.decoder();
  SplitBatches batches(session, sample.data_dir, sample.split, sample.sequence_length,
                       sample.max_sequences, sample.domain);
  const TokenSample tokens(batches.targets(), sample.sampled_tokens);
  std::vector<LayerSums> sums(static_cast<size_t>(decoder.num_moe_layers()));
  while (!batches.done()) {
    const FlightRecord::Phase phase(session.record(), "diagnose routing");
    MicroBatch batch = batches.next();
    batch.input.keep_moe_inputs = true;
    const DecoderOutput output = decoder.forward(batch.input);
    const Tensor rows_n = sampled_rows(batch.input, batches.sequence_length(), tokens);
    for (size_t l = 0; l < sums.size(); ++l) {
      sums[l].add(output.routers[l], output.moe_inputs_TD[l], rows_n);
    }
  }

  RoutingSummary summary;
  summary.step = session.progress().step;
  summary.data = sample.data_dir;
  summary.split = sample.split;
  summary.sequence_length = batches.sequence_length();
  summary.sequences = batches.sequences();
  for (size_t l = 0; l < sums.size(); ++l) {
    const FlightRecord::Phase phase(session.record(), "compare experts");
    LayerRouting routing;
    routing.layer = decoder.moe_layers()[l];
    const NormSums norms =
        norm_sums(sums[l], decoder.moe_layer(routing.layer), *session.mesh().expert);
    sums[l].x_nD.clear();
    add_token_sums(sums[l], norms, *session.mesh().world, routing, summary);
    add_similarities(session, routing);
    summary.layers.push_back(std::move(routing));
  }
  return summary;
}

}  // namespace switchyard
