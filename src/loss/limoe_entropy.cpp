#include "loss/limoe_entropy.h"

#include <ATen/ATen.h>

#include "loss/entropy.h"

namespace switchyard {

at::Tensor local_entropy(const at::Tensor& sums_G, const at::Tensor& tokens_G) {
  return mean_of_tokens(sums_G.unsqueeze(1), tokens_G).squeeze(1);
}

at::Tensor global_entropy(const at::Tensor& sums_GE, const at::Tensor& tokens_G, double threshold) {
  const at::Tensor entropy_G = entropy(mean_of_tokens(sums_GE, tokens_G));
  if (threshold == 0.0) return -entropy_G;
  return at::where(tokens_G > 0, (threshold - entropy_G).relu(), 0.0);
}

}  // namespace switchyard
