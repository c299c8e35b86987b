#include "train/evaluator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "data/sequential_samples.h"
#include "data/token_dataset.h"
#include "loss/cross_entropy.h"

// B sequences of S tokens on this rank, T = B * S.

namespace switchyard {
namespace {

using at::Tensor;

/// Sum of losses and number of targets of this rank's share of some sequences.
struct LossSum {
  double loss = 0;
  int64_t tokens = 0;
};

LossSum loss_of(Session& session, const SampleBatch& samples) {
  const int64_t B = samples.count, S = samples.length;
  const Tensor tokens = at::tensor(samples.tokens, at::kLong).view({B, S + 1});
  const Tensor valid_BS =
      at::arange(S).unsqueeze(0) < at::tensor(samples.valid, at::kLong).unsqueeze(1);
  DecoderInput input;
  input.tokens_BS = tokens.narrow(1, 0, S).contiguous();
  input.valid_BS = valid_BS;
  input.order_B = at::tensor(samples.order, at::kLong);
  input.mode = Mode::kEval;
  const Tensor targets_T =
      tokens.narrow(1, 1, S).masked_fill(valid_BS.logical_not(), kIgnoredTarget).reshape({-1});
  const DecoderOutput output = session.decoder().forward(input);
  const Tensor loss = cross_entropy_sum(session.decoder().logits(output.hidden_TD), targets_T);
  return {loss.item<double>(), valid_BS.sum().item<int64_t>()};
}

/// Tokens per byte of text of a split, where its meta.json knows the bytes.
std::optional<double> tokens_per_byte(const TokenDataset& dataset, const std::string& split) {
  const auto bytes = dataset.meta().bytes.find(split);
  if (bytes == dataset.meta().bytes.end() || bytes->second == 0) return std::nullopt;
  return static_cast<double>(dataset.num_tokens()) / static_cast<double>(bytes->second);
}

}  // namespace

EvalMetrics evaluate(Session& session, const std::string& data_dir, const std::string& split,
                     int64_t sequence_length, int64_t max_sequences) {
  const c10::NoGradGuard no_grad;
  const TokenDataset dataset(data_dir, split);
  const SequentialSamples samples(dataset, sequence_length);
  Communicator& world = *session.mesh().world;
  const int64_t total =
      max_sequences > 0 ? std::min(max_sequences, samples.count()) : samples.count();
  const int64_t per_rank = session.config().train.micro_batch_size;
  LossSum sum;
  for (int64_t begin = 0; begin < total; begin += per_rank * world.size()) {
    const int64_t mine = std::min(begin + world.rank() * per_rank, total);
    const LossSum part = loss_of(session, samples.read(mine, std::min(per_rank, total - mine)));
    sum.loss += part.loss;
    sum.tokens += part.tokens;
  }
  Tensor sums = at::tensor({sum.loss, static_cast<double>(sum.tokens)}, at::kDouble);
  world.all_reduce(sums, ReduceOp::kSum, "sums of the evaluation");
  EvalMetrics metrics;
  metrics.step = session.progress().step;
  metrics.split = split;
  metrics.tokens = static_cast<int64_t>(sums[1].item<double>());
  metrics.loss = sums[0].item<double>() / sums[1].item<double>();
  if (const auto ratio = tokens_per_byte(dataset, split)) {
    metrics.bits_per_byte = metrics.loss / std::numbers::ln2 * *ratio;
  }
  return metrics;
}

}  // namespace switchyard
