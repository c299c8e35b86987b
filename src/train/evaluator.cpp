#include "train/evaluator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "loss/linear_cross_entropy.h"
#include "ops/host_copy.h"
#include "train/split_batches.h"

// B sequences of S tokens on this rank, T = B * S.

namespace switchyard {
namespace {

using at::Tensor;

/// Sum of losses and number of targets of this rank's share of some sequences.
struct LossSum {
  Tensor loss;  // () float64, on the model's device: read once, at the end
  int64_t tokens = 0;
};

LossSum loss_of(Session& session, const MicroBatch& batch, TokenCensus* tokens) {
  const DecoderOutput output = session.decoder().forward(batch.input);
  if (tokens != nullptr) tokens->add(batch.input.tokens_BS, output.routers);
  const Tensor loss = linear_cross_entropy(output.hidden_TD, session.decoder().head(),
                                           copy_to_device(batch.targets_T, session.device()))
                          .sum;
  return {loss.to(at::kDouble), batch.input.valid_BS.sum().item<int64_t>()};
}

}  // namespace

std::optional<EvalMetrics> evaluate(Session& session, const std::string& data_dir,
                                    const std::string& split, int64_t sequence_length,
                                    int64_t max_sequences, const std::function<bool()>& stop,
                                    std::optional<int64_t> domain, TokenCensus* tokens) {
  const c10::NoGradGuard no_grad;
  SplitBatches batches(session, data_dir, split, sequence_length, max_sequences, domain);
  LossSum sum;
  while (!batches.done()) {
    const FlightRecord::Phase phase(session.record(), "evaluate");
    if (stop && stop()) return std::nullopt;
    const LossSum part = loss_of(session, batches.next(), tokens);
    sum.loss = sum.loss.defined() ? sum.loss + part.loss : part.loss;
    sum.tokens += part.tokens;
  }
  Tensor sums = at::tensor(
      {sum.loss.defined() ? sum.loss.item<double>() : 0.0, static_cast<double>(sum.tokens)},
      at::kDouble);
  session.mesh().world->all_reduce(sums, ReduceOp::kSum, "sums of the evaluation");
  EvalMetrics metrics;
  metrics.step = session.progress().step;
  metrics.split = split;
  metrics.tokens = static_cast<int64_t>(sums[1].item<double>());
  metrics.loss = sums[0].item<double>() / sums[1].item<double>();
  metrics.bits_per_byte = batches.dataset().bits_per_byte(metrics.loss);
  return metrics;
}

}  // namespace switchyard
