#include "loss/mutual_information.h"

#include <ATen/ATen.h>

#include "loss/entropy.h"

namespace switchyard {

at::Tensor mutual_information(const at::Tensor& sums_GE, const at::Tensor& entropy_G,
                              const at::Tensor& tokens_G) {
  const at::Tensor conditional_G = mean_of_tokens(entropy_G.unsqueeze(1), tokens_G).squeeze(1);
  return conditional_G - entropy(mean_of_tokens(sums_GE, tokens_G));
}

}  // namespace switchyard
