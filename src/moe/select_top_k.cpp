#include "moe/select_top_k.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

namespace switchyard {

namespace {

template <typename Number>
at::Tensor select(const at::Tensor& scores_TE, int64_t k) {
  const int64_t T = scores_TE.size(0), E = scores_TE.size(1);
  at::Tensor ids_Tk = at::empty({T, k}, at::kLong);
  const Number* scores = scores_TE.data_ptr<Number>();
  int64_t* ids = ids_Tk.data_ptr<int64_t>();
  at::parallel_for(0, T, 256, [&](int64_t begin, int64_t end) {
    std::vector<char> taken(E);
    for (int64_t t = begin; t < end; ++t) {
      std::fill(taken.begin(), taken.end(), 0);
      for (int64_t choice = 0; choice < k; ++choice) {
        int64_t best = -1;
        for (int64_t e = 0; e < E; ++e) {
          if (!taken[e] && (best < 0 || scores[t * E + e] > scores[t * E + best])) best = e;
        }
        taken[best] = 1;
        ids[t * k + choice] = best;
      }
    }
  });
  return ids_Tk;
}

}  // namespace

at::Tensor select_top_k(const at::Tensor& scores_TE, int64_t k) {
  TORCH_CHECK(scores_TE.dim() == 2 && at::isFloatingType(scores_TE.scalar_type()) && k >= 1 &&
                  k <= scores_TE.size(1),
              "select_top_k: ", k, " of scores_TE ", scores_TE.sizes(), " ", scores_TE.dtype());
  if (!scores_TE.is_cpu()) {
    const at::Tensor order_TE =
        at::argsort(scores_TE.detach(), /*stable=*/true, /*dim=*/1, /*descending=*/true);
    return order_TE.narrow(/*dim=*/1, 0, k).contiguous();
  }
  if (scores_TE.scalar_type() == at::kDouble) return select<double>(scores_TE.contiguous(), k);
  return select<float>(scores_TE.to(at::kFloat).contiguous(), k);
}

}  // namespace switchyard
