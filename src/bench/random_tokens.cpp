#include "bench/random_tokens.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

namespace switchyard {

using at::Tensor;

namespace {

constexpr int kPool = 4;
constexpr uint64_t kSeed = 1234;

SampleBatch samples_of(const Tensor& tokens, int64_t first) {
  SampleBatch samples;
  samples.count = tokens.size(0);
  samples.length = tokens.size(1) - 1;
  const Tensor flat = tokens.contiguous();
  samples.tokens.assign(flat.data_ptr<int64_t>(), flat.data_ptr<int64_t>() + flat.numel());
  for (int64_t i = 0; i < samples.count; ++i) {
    samples.order.push_back(first + i);
    samples.ids.push_back(static_cast<uint64_t>(first + i));
    samples.source.push_back(0);
    samples.valid.push_back(samples.length);
  }
  return samples;
}

}  // namespace

RandomTokens::RandomTokens(const Session& session) : session_(session) {
  const RunConfig& config = session.config();
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(kSeed);
  for (int i = 0; i < kPool; ++i) {
    pool_.push_back(at::randint(0, config.model.vocab_size,
                                {config.train.global_batch_size, config.data.sequence_length + 1},
                                generator, at::kLong));
  }
}

std::vector<MicroBatch> RandomTokens::step(int64_t step) const {
  const RunConfig& config = session_.config();
  const int64_t micro = config.train.micro_batch_size,
                begin = session_.mesh().world->rank() * session_.sequences_per_rank();
  std::vector<MicroBatch> batches;
  for (int64_t m = 0; m < session_.accumulation_steps(); ++m) {
    const int64_t row = begin + m * micro;
    const Tensor tokens = pool_[step % kPool].narrow(0, row, micro);
    batches.push_back(
        make_micro_batch(samples_of(tokens, step * config.train.global_batch_size + row), config,
                         /*end_of_text=*/-1));
  }
  return batches;
}

Tensor RandomTokens::counts_V() const {
  return at::bincount(at::cat(pool_).flatten(), {}, session_.config().model.vocab_size);
}

}  // namespace switchyard
