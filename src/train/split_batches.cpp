#include "train/split_batches.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/error.h"
#include "train/domain.h"

namespace switchyard {
namespace {

/// Ids that the embedding does not have would end in a crash far from their cause.
void check_vocabulary(const Session& session, const TokenDataset& dataset) {
  const int64_t model = session.config().model.vocab_size, data = dataset.meta().vocab_size;
  if (data <= model) return;
  throw ConfigError(dataset.dir() + ": its vocabulary of " + std::to_string(data) +
                    " is larger than the model's " + std::to_string(model) +
                    "; prepare the text with the model's own tokenizer");
}

std::optional<int64_t> checked_domain(const Session& session, std::optional<int64_t> domain) {
  require_domain(session.config(), domain);
  return domain;
}

}  // namespace

SplitBatches::SplitBatches(const Session& session, const std::string& data_dir,
                           const std::string& split, int64_t sequence_length, int64_t max_sequences,
                           std::optional<int64_t> domain)
    : session_(session),
      domain_(checked_domain(session, domain)),
      dataset_(data_dir, split),
      length_(std::min(sequence_length, std::max<int64_t>(1, dataset_.num_tokens() - 1))),
      samples_(dataset_, length_),
      sequences_(max_sequences > 0 ? std::min(max_sequences, samples_.count()) : samples_.count()) {
  check_vocabulary(session, dataset_);
}

int64_t SplitBatches::targets() const {
  return std::min(sequences_ * length_, samples_.num_targets());
}

MicroBatch SplitBatches::next() {
  const Communicator& world = *session_.mesh().world;
  const int64_t per_rank = session_.config().train.micro_batch_size;
  const int64_t mine = std::min(begin_ + world.rank() * per_rank, sequences_);
  begin_ += per_rank * world.size();
  MicroBatch batch = make_eval_batch(samples_.read(mine, std::min(per_rank, sequences_ - mine)),
                                     session_.config(), dataset_.meta().eos);
  const int64_t B = batch.input.tokens_BS.size(0);
  batch.input.domains_B = domain_ ? at::full({B}, *domain_, at::kLong) : at::Tensor();
  return batch;
}

}  // namespace switchyard
