#include "moe/routers/smooth_load.h"

#include <ATen/ATen.h>

#include "moe/select_top_k.h"

namespace switchyard {

using at::Tensor;

Tensor load_against_others(const Tensor& clean_TE, const Tensor& noisy_TE, const Tensor& sigma,
                           int64_t top_k) {
  TORCH_CHECK(top_k < noisy_TE.size(1), "load_against_others: ", top_k, " of ", noisy_TE.size(1));
  const Tensor ids = select_top_k(noisy_TE.detach(), top_k + 1);
  const Tensor best = noisy_TE.gather(/*dim=*/1, ids);
  const Tensor chosen_TE = hard_load(ids.narrow(/*dim=*/1, 0, top_k), noisy_TE).to(at::kBool);
  const Tensor threshold_TE =
      at::where(chosen_TE, best.narrow(/*dim=*/1, top_k, 1), best.narrow(/*dim=*/1, top_k - 1, 1));
  return at::special_ndtr((clean_TE - threshold_TE) / sigma);
}

Tensor load_against_kth(const Tensor& clean_TE, const Tensor& noisy_TE, const Tensor& sigma,
                        int64_t top_k) {
  const Tensor kth_T1 = select_top_k(noisy_TE.detach(), top_k).narrow(/*dim=*/1, top_k - 1, 1);
  return at::special_ndtr((clean_TE - noisy_TE.gather(/*dim=*/1, kth_T1)) / sigma);
}

Tensor hard_load(const Tensor& experts_TK, const Tensor& like_TE) {
  return at::zeros(like_TE.sizes(), like_TE.options().requires_grad(false))
      .scatter_(/*dim=*/1, experts_TK, 1.0);
}

}  // namespace switchyard
