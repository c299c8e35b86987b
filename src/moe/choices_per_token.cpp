#include "moe/choices_per_token.h"

namespace switchyard {

int64_t choices_per_token(const MoeConfig& moe, Mode mode) {
  if (moe.router.type != "dense_training") return moe.top_k;
  const bool sparse = mode == Mode::kEval && moe.router.dense_training.inference == "top_k";
  return sparse ? moe.top_k : moe.num_experts;
}

}  // namespace switchyard
