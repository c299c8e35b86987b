#include "moe/expert_norms.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

// T tokens on this rank, N on the rank that has most, P ranks, L experts on each,
// E = P * L, D model width.

namespace switchyard {

using at::Tensor;

Tensor expert_norms(const Experts& experts, const Tensor& x_TD, Communicator& group) {
  const c10::NoGradGuard no_grad;
  const int64_t T = x_TD.size(0), D = x_TD.size(1), P = group.size();
  Tensor most = at::full({1}, T, at::kLong);
  group.all_reduce(most, ReduceOp::kMax, "tokens for all experts");
  const int64_t N = most.item<int64_t>();
  Tensor mine_ND = at::zeros({N, D}, x_TD.options());
  mine_ND.narrow(0, 0, T).copy_(x_TD);
  Tensor all_RD = at::empty({P * N, D}, x_TD.options());
  group.all_gather(mine_ND, all_RD, "tokens for all experts");

  const Tensor local_RL = experts.output_norms(all_RD);
  Tensor norms_PRL = at::empty({P, P * N, local_RL.size(1)}, local_RL.options());
  group.all_gather(local_RL, norms_PRL, "norms of all experts");
  return norms_PRL.narrow(1, group.rank() * N, T)
      .permute({1, 0, 2})
      .reshape({T, P * local_RL.size(1)});
}

}  // namespace switchyard
