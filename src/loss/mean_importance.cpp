#include "loss/mean_importance.h"

#include <ATen/ATen.h>

#include "loss/entropy.h"

namespace switchyard {

at::Tensor mean_importance(const at::Tensor& sums_GE, const at::Tensor& tokens_G) {
  const at::Tensor mean_GE = mean_of_tokens(sums_GE, tokens_G);
  return static_cast<double>(sums_GE.size(1)) * mean_GE.square().sum(/*dim=*/1);
}

}  // namespace switchyard
