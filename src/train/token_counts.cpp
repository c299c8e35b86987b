#include "train/token_counts.h"

#include <ATen/ATen.h>

#include <algorithm>

// V vocabulary.

namespace switchyard {

at::Tensor token_counts(const TrainingData& data, int64_t vocab_size, Communicator& world) {
  std::vector<std::vector<int64_t>> of_sources;
  for (int64_t i = 0; i < data.num_sources(); ++i) {
    std::vector<int64_t> mine = data.source(i).count_tokens(world.rank(), world.size());
    at::Tensor counts_V = at::tensor(mine, at::kLong);
    world.all_reduce(counts_V, ReduceOp::kSum, "token counts of a source");
    const int64_t* counts = counts_V.data_ptr<int64_t>();
    of_sources.emplace_back(counts, counts + counts_V.numel());
  }
  std::vector<int64_t> blended = data.blended_counts(of_sources);
  TORCH_CHECK(static_cast<int64_t>(blended.size()) <= vocab_size, "token_counts: ", blended.size(),
              " tokens and a vocabulary of ", vocab_size);
  blended.resize(vocab_size, 0);
  return at::tensor(blended, at::kLong);
}

void prepare_routers(Session& session, const TrainingData& data) {
  if (!session.decoder().wants_token_counts()) return;
  session.decoder().use_token_counts(
      token_counts(data, session.config().model.vocab_size, *session.mesh().world));
}

}  // namespace switchyard
