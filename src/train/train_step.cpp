#include "train/train_step.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/AutogradState.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/failpoint.h"
#include "config/overlap.h"
#include "loss/cross_entropy.h"
#include "loss/linear_cross_entropy.h"
#include "moe/router_objective.h"
#include "ops/host_copy.h"
#include "ops/region.h"
#include "optim/schedule.h"

// B sequences of S tokens in a micro-batch, T = B * S, L MoE layers, E experts.

namespace switchyard {
namespace {

using at::Tensor;

/// Document of each position: counts the ends of text before it.
Tensor documents_of(const Tensor& tokens_BS, int64_t end_of_text) {
  const Tensor ends_BS = (tokens_BS == end_of_text).to(at::kLong);
  return ends_BS.cumsum(/*dim=*/1) - ends_BS;
}

double milliseconds_in_collectives(const Mesh& mesh) {
  return mesh.world->milliseconds() + mesh.expert->milliseconds() + mesh.data->milliseconds();
}

std::vector<Tensor*> tensors_of(StepCounts& counts) {
  std::vector<Tensor*> parts;
  if (counts.defined()) parts = {&counts.all_LE, &counts.first_LE};
  for (Tensor& sums_LS : counts.sums) {
    if (sums_LS.defined()) parts.push_back(&sums_LS);
  }
  return parts;
}

/// Puts in the place of float64 tensors what `change` makes of them as one flat tensor.
template <typename Change>
void change_as_one(const std::vector<Tensor*>& parts, const Change& change) {
  std::vector<Tensor> flat;
  for (const Tensor* part : parts) flat.push_back(part->flatten());
  const Tensor changed = change(at::cat(flat));
  int64_t begin = 0;
  for (Tensor* part : parts) {
    const int64_t size = part->numel();
    *part = changed.narrow(0, begin, size).view(part->sizes());
    begin += size;
  }
}

/// Sums that one micro-batch after another adds to, on this rank and its device.
struct Sums {
  Tensor numbers;  // (3 + 3 L) float64: loss, aux, z; each layer's drops, pairs and entropy
  StepCounts counts;

  void add(const Tensor& loss, const RouterLosses& router,
           const std::vector<RouterRecord>& records) {
    std::vector<Tensor> parts = {loss.detach(), router.aux, router.z};
    for (const RouterRecord& record : records) parts.push_back(record.dropped_pairs);
    for (const RouterRecord& record : records) parts.push_back(record.routed_pairs);
    for (const RouterRecord& record : records) {
      const Tensor probs_TE = record.probs_TE.detach();
      parts.push_back(-at::xlogy(probs_TE, probs_TE).sum());
    }
    for (Tensor& part : parts) part = part.to(loss.options().dtype(at::kDouble));
    const Tensor more = at::stack(parts);
    numbers = numbers.defined() ? numbers + more : more;
    add_counts(records, counts);
  }

  /// The one copy of them that a step makes.
  void bring_to_host() {
    if (numbers.is_cpu()) return;
    std::vector<Tensor*> parts = tensors_of(counts);
    parts.push_back(&numbers);
    change_as_one(parts, [](const Tensor& all) { return HostCopy(all).wait(); });
  }
};

/// One all-reduce; of counts on a device one more, in host memory, for the number of tokens.
void reduce_counts(StepCounts& counts, Communicator& world, const char* purpose) {
  if (!counts.defined()) return;
  Tensor tokens = at::full({1}, counts.tokens, at::kDouble);
  std::vector<Tensor*> parts = tensors_of(counts);
  if (counts.all_LE.is_cpu()) {
    parts.push_back(&tokens);
  } else {
    world.all_reduce(tokens, ReduceOp::kSum, purpose);
  }
  change_as_one(parts, [&](Tensor all) {
    world.all_reduce(all, ReduceOp::kSum, purpose);
    return all;
  });
  counts.tokens = tokens.item<double>();
}

/// The step's sums over all ranks, into the report: one all-reduce, in host memory.
void reduce_sums(Sums& sums, Communicator& world, StepReport& report) {
  sums.bring_to_host();
  world.all_reduce(sums.numbers, ReduceOp::kSum, "sums of the step");
  reduce_counts(sums.counts, world, "routing counts of the step");
  const double* x = sums.numbers.data_ptr<double>();
  report.loss = x[0];
  report.aux = x[1];
  report.z = x[2];
  report.counts = sums.counts;
  const int64_t L = (sums.numbers.numel() - 3) / 3;
  for (int64_t l = 0; l < L; ++l) {
    report.dropped_L.push_back(x[3 + l] / std::max(1.0, x[3 + L + l]));
    report.entropy_L.push_back(x[3 + 2 * L + l] / std::max(1.0, sums.counts.tokens));
  }
}

/// Routing counts, and sums of balance losses, of the whole step by a forward-only pass over all
/// micro-batches: exact load fractions under accumulation. Draws are counter-based, so the second
/// pass routes the same way.
StepCounts count_step(Session& session, const std::vector<MicroBatch>& batches) {
  const c10::NoGradGuard no_grad;
  StepCounts counts;
  for (const MicroBatch& batch : batches) {
    const FlightRecord::Phase phase(session.record(), "forward");
    add_counts(session.decoder().forward(batch.input).routers, session.config().moe, counts);
  }
  reduce_counts(counts, *session.mesh().world, "routing counts of the counting pass");
  return counts;
}

/// Counts of the scopes that look beyond this micro-batch on this rank.
void fill_balance_counts(const Session& session, const std::vector<RouterRecord>& records,
                         BalanceCounts& counts) {
  const MoeConfig& moe = session.config().moe;
  Communicator& world = *session.mesh().world;
  const bool micro = uses_scope(moe, "micro_batch"),
             global = uses_scope(moe, "global") && !counts.global.defined();
  if (!micro && !global) return;
  StepCounts here;
  add_counts(records, moe, here);
  reduce_counts(here, world, "routing counts of the micro-batch");
  if (micro) counts.micro_batch = here;
  if (global) counts.global = here;
}

/// The objective of routers that sample. Their reward is made without a gradient.
Tensor policy_objective(const std::vector<RouterRecord>& records, const Tensor& losses_T,
                        const Tensor& targets_T, double step_tokens) {
  return router_objective(records, losses_T, targets_T != kIgnoredTarget, step_tokens);
}

void trace_routing(const std::vector<RouterRecord>& records, const MicroBatch& batch,
                   RoutingTrace* trace) {
  if (trace == nullptr) return;
  for (size_t l = 0; l < records.size(); ++l) {
    trace->entries.push_back({static_cast<int64_t>(l), batch.input.order_B,
                              records[l].experts_TK.cpu(), records[l].kept_TK.cpu()});
  }
}

}  // namespace

MicroBatch make_micro_batch(const SampleBatch& samples, const RunConfig& config,
                            int64_t end_of_text) {
  const int64_t B = samples.count, S = samples.length;
  const Tensor tokens = at::tensor(samples.tokens, at::kLong).view({B, S + 1});
  MicroBatch batch;
  batch.input.tokens_BS = tokens.narrow(1, 0, S).contiguous();
  batch.input.order_B = at::tensor(samples.order, at::kLong);
  batch.input.domains_B = at::tensor(samples.source, at::kInt).to(at::kLong);
  batch.input.group_sequences = config.moe.group_sequences;
  if (config.data.mask_documents)
    batch.input.documents_BS = documents_of(batch.input.tokens_BS, end_of_text);
  batch.targets_T = tokens.narrow(1, 1, S).reshape({-1});
  return batch;
}

MicroBatch make_eval_batch(const SampleBatch& samples, const RunConfig& config,
                           int64_t end_of_text) {
  MicroBatch batch = make_micro_batch(samples, config, end_of_text);
  batch.input.valid_BS =
      at::arange(samples.length).unsqueeze(0) < at::tensor(samples.valid, at::kLong).unsqueeze(1);
  batch.input.mode = Mode::kEval;
  batch.input.group_sequences = 1;
  batch.targets_T = batch.targets_T.masked_fill(  // not in place: it may be a view of the inputs
      batch.input.valid_BS.flatten().logical_not(), kIgnoredTarget);
  return batch;
}

std::vector<MicroBatch> read_step(const Session& session, const TrainingData& data) {
  const int64_t micro = session.config().train.micro_batch_size;
  const int64_t rank_offset = session.mesh().world->rank() * session.sequences_per_rank();
  std::vector<MicroBatch> batches;
  for (int64_t m = 0; m < session.accumulation_steps(); ++m) {
    const int64_t first = static_cast<int64_t>(session.progress().cursor) + rank_offset + m * micro;
    batches.push_back(make_micro_batch(data.read(first, micro), session.config(), data.eos()));
  }
  return batches;
}

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Where tests break one rank's weights, to see that it does not act on them alone.
void break_weights(Session& session) {
  ParameterStore& store = session.store();
  const auto first_of = [&](std::string_view ending) {
    const auto& parts = store.parts();
    const auto ends = [&](const PlacedPart& placed) { return placed.part.name.ends_with(ending); };
    return store.weight_of(*std::find_if(parts.begin(), parts.end(), ends)).flatten()[0];
  };
  if (failpoint("weight.nan")) first_of("model.norm.weight").fill_(kNan);
  if (failpoint("weight.flip")) {  // of the second byte: updates would round the lowest bit away
    const Tensor weight = first_of("norm.weight"), flipped = weight.cpu();
    static_cast<uint8_t*>(flipped.data_ptr())[1] ^= 1;
    weight.copy_(flipped);
  }
  if (failpoint("expert_weight.nan")) store.buffer(ParameterKind::kExpert).weights[0].fill_(kNan);
  if (failpoint("router_weight.inf")) first_of(".mlp.gate.weight").fill_(kInfinity);
}

/// The same for what a step has computed.
void break_gradients(Session& session, const Tensor& sums) {
  ParameterStore& store = session.store();
  if (failpoint("loss.nan")) sums[0].fill_(kNan);
  if (failpoint("gradient.nan")) store.buffer(ParameterKind::kDense).gradients[0].fill_(kNan);
  if (failpoint("expert_gradient.inf")) {
    store.buffer(ParameterKind::kExpert).gradients[0].fill_(kInfinity);
  }
}

/// On this thread, as every collective: LibTorch would take one of its own for a GPU.
void backward(const Tensor& objective) {
  struct OneThread {
    OneThread() { set(false); }
    ~OneThread() { set(before); }
    static void set(bool many) {
      c10::AutogradState::get_tls_state().set_multithreading_enabled(many);
    }
    bool before = c10::AutogradState::get_tls_state().get_multithreading_enabled();
  } const one_thread;
  torch::autograd::backward({objective}, {});
}

}  // namespace

StepReport compute_gradients(Session& session, const std::vector<MicroBatch>& batches,
                             RoutingTrace* trace, RoutingCensus* census) {
  StepReport report;
  const int64_t exchanged_before = session.mesh().expert->exchanged_bytes();
  const double comm_before = milliseconds_in_collectives(session.mesh());
  const RunConfig& config = session.config();
  const double step_tokens =
      static_cast<double>(config.train.global_batch_size * config.data.sequence_length);
  Region part("optimizer");
  session.store().zero_gradients();

  Sums sums;
  BalanceCounts counts;
  counts.lagged = session.progress().lagged.to(session.device());
  if (uses_scope(config.moe, "global") && batches.size() > 1)
    counts.global = count_step(session, batches);

  BucketedReduction reduction(session.store());
  const bool overlaps = overlaps_reduction(config);
  for (const MicroBatch& batch : batches) {
    Tensor objective;
    {
      const Span span(report.phases.forward_ms);
      const FlightRecord::Phase phase(session.record(), "forward");
      const Tensor targets_T = copy_to_device(batch.targets_T, session.device());
      DecoderInput input = batch.input;
      if (overlaps && &batch == &batches.back()) input.reduction = &reduction;
      const DecoderOutput output = session.decoder().forward(input);
      part.next("head_loss");
      const LinearCrossEntropy cross_entropy =
          linear_cross_entropy(output.hidden_TD, session.decoder().head(), targets_T);
      const Tensor loss = cross_entropy.sum / step_tokens;
      part.next("router");
      fill_balance_counts(session, output.routers, counts);
      const RouterLosses router = router_losses(output.routers, config.moe, counts, step_tokens);
      objective = loss + router.objective;
      if (config.moe.router.type == "reinforce") {
        objective = objective + config.moe.router.reinforce.coef *
                                    policy_objective(output.routers, cross_entropy.losses_T,
                                                     targets_T, step_tokens);
      }
      sums.add(loss, router, output.routers);
      trace_routing(output.routers, batch, trace);
      if (census != nullptr) census->add(output.routers);
    }
    const Span span(report.phases.backward_ms);
    const FlightRecord::Phase phase(session.record(), "backward");
    part.next("backward");
    backward(objective);
  }
  part.next("reduction");

  const FlightRecord::Phase phase(session.record(), "reduce");
  break_gradients(session, sums.numbers);
  if (overlaps) reduction.start_rest();
  reduce_sums(sums, *session.mesh().world, report);
  if (overlaps) {
    reduction.finish();
  } else {
    reduce_gradients(session.store());
  }
  report.norms = gradient_norms(session.store(), *session.mesh().world);
  report.finite = std::isfinite(report.loss) && std::isfinite(report.norms.total);
  report.phases.comm_ms = milliseconds_in_collectives(session.mesh()) - comm_before;
  report.exchanged_bytes = session.mesh().expert->exchanged_bytes() - exchanged_before;
  return report;
}

namespace {

/// Clips, updates, publishes, and moves the router's state on.
void apply_update(Session& session, StepReport& report) {
  const Span span(report.phases.optimizer_ms);
  const FlightRecord::Phase phase(session.record(), "optimizer");
  const Region part("optimizer");
  const RunConfig& config = session.config();
  Progress& progress = session.progress();
  const double scale = clip_coefficient(report.norms.total, config.optim.grad_clip);
  session.optimizer().update(session.store(), progress.updates + 1, report.lr, scale);
  session.store().gather_weights();
  progress.updates += 1;
  progress.skipped_in_row = 0;
  if (!report.counts.defined()) return;
  progress.lagged = report.counts;
  const Tensor counts_LE = copy_to_device(report.counts.all_LE, session.device());
  std::vector<RouterStep> steps;
  for (size_t l = 0; l < report.dropped_L.size(); ++l) {
    steps.push_back({counts_LE[static_cast<int64_t>(l)], report.counts.tokens, report.dropped_L[l],
                     report.loss});
  }
  session.decoder().update_router_state(steps);
}

}  // namespace

StepReport train_step(Session& session, const std::vector<MicroBatch>& batches,
                      RoutingCensus* census) {
  const RunConfig& config = session.config();
  Progress& progress = session.progress();
  break_weights(session);
  StepReport report = compute_gradients(session, batches, /*trace=*/nullptr, census);
  if (failpoint("spike")) report.norms.total += 1e3;
  if (report.finite) {
    const auto verdict = session.spike_guard().look_at(report.loss, report.norms.total);
    report.loss_z = verdict.loss_z;
    report.norm_z = verdict.norm_z;
    report.spike = verdict.spike;
  }
  report.lr = config.optim.lr *
              schedule_factor(config.optim.schedule, progress.step + 1, config.train.steps);
  if (report.spike) {
    progress.spikes += 1;
  } else if (report.finite) {
    const double comm_before = milliseconds_in_collectives(session.mesh());
    apply_update(session, report);
    report.phases.comm_ms += milliseconds_in_collectives(session.mesh()) - comm_before;
  } else {
    progress.skipped += 1;
    progress.skipped_in_row += 1;
  }
  progress.step += 1;
  progress.cursor += static_cast<uint64_t>(config.train.global_batch_size);
  progress.tokens += config.train.global_batch_size * config.data.sequence_length;
  return report;
}

}  // namespace switchyard
