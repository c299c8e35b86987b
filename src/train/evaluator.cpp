#include "train/evaluator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "base/error.h"
#include "data/sequential_samples.h"
#include "data/token_dataset.h"
#include "loss/cross_entropy.h"
#include "train/domain.h"
#include "train/train_step.h"

// B sequences of S tokens on this rank, T = B * S.

namespace switchyard {
namespace {

using at::Tensor;

/// Sum of losses and number of targets of this rank's share of some sequences.
struct LossSum {
  double loss = 0;
  int64_t tokens = 0;
};

LossSum loss_of(Session& session, const SampleBatch& samples, int64_t end_of_text,
                std::optional<int64_t> domain) {
  MicroBatch batch = make_eval_batch(samples, session.config(), end_of_text);
  batch.input.domains_B = domain ? at::full({samples.count}, *domain, at::kLong) : Tensor();
  const DecoderOutput output = session.decoder().forward(batch.input);
  const Tensor loss =
      cross_entropy_sum(session.decoder().logits(output.hidden_TD), batch.targets_T);
  return {loss.item<double>(), batch.input.valid_BS.sum().item<int64_t>()};
}

/// Ids that the embedding does not have would end in a crash far from their cause.
void check_vocabulary(const Session& session, const TokenDataset& dataset, const std::string& dir) {
  const int64_t model = session.config().model.vocab_size, data = dataset.meta().vocab_size;
  if (data <= model) return;
  throw ConfigError(dir + ": its vocabulary of " + std::to_string(data) +
                    " is larger than the model's " + std::to_string(model) +
                    "; prepare the text with the model's own tokenizer");
}

}  // namespace

std::optional<EvalMetrics> evaluate(Session& session, const std::string& data_dir,
                                    const std::string& split, int64_t sequence_length,
                                    int64_t max_sequences, const std::function<bool()>& stop,
                                    std::optional<int64_t> domain) {
  const c10::NoGradGuard no_grad;
  require_domain(session.config(), domain);
  const TokenDataset dataset(data_dir, split);
  check_vocabulary(session, dataset, data_dir);
  const int64_t longest = std::max<int64_t>(1, dataset.num_tokens() - 1);
  const SequentialSamples samples(dataset, std::min(sequence_length, longest));
  Communicator& world = *session.mesh().world;
  const int64_t total =
      max_sequences > 0 ? std::min(max_sequences, samples.count()) : samples.count();
  const int64_t per_rank = session.config().train.micro_batch_size;
  LossSum sum;
  for (int64_t begin = 0; begin < total; begin += per_rank * world.size()) {
    const FlightRecord::Phase phase(session.record(), "evaluate");
    if (stop && stop()) return std::nullopt;
    const int64_t mine = std::min(begin + world.rank() * per_rank, total);
    const LossSum part = loss_of(session, samples.read(mine, std::min(per_rank, total - mine)),
                                 dataset.meta().eos, domain);
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
  metrics.bits_per_byte = dataset.bits_per_byte(metrics.loss);
  return metrics;
}

}  // namespace switchyard
