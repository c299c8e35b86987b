#include "loss/negative_entropy.h"

#include <ATen/ATen.h>

#include "loss/entropy.h"

namespace switchyard {

at::Tensor negative_entropy(const at::Tensor& sums_GE, const at::Tensor& tokens_G) {
  return -entropy(mean_of_tokens(sums_GE, tokens_G));
}

}  // namespace switchyard
