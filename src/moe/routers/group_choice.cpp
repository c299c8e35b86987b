#include "moe/routers/group_choice.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "moe/capacity.h"
#include "moe/select_top_k.h"

namespace switchyard {

using at::Tensor;

std::vector<Tensor> tokens_of_groups(int64_t tokens, const TokenContext& context,
                                     c10::Device device) {
  const int64_t group = context.tokens_per_group;
  TORCH_CHECK(tokens == 0 || (group > 0 && tokens % group == 0), "routing groups of ", group,
              " tokens do not fit ", tokens, " tokens");
  const Tensor valid_T = context.valid_T.defined() ? context.valid_T.to(device) : Tensor();
  std::vector<Tensor> ids;
  for (int64_t begin = 0; begin < tokens; begin += group) {
    Tensor ids_N = at::arange(begin, begin + group, at::TensorOptions(device).dtype(at::kLong));
    if (valid_T.defined()) ids_N = ids_N.masked_select(valid_T.narrow(0, begin, group));
    if (ids_N.numel() > 0) ids.push_back(ids_N);
  }
  return ids;
}

int64_t tokens_per_expert(int64_t tokens, double factor, int64_t num_experts) {
  CapacityConfig rounding;
  rounding.counts_k = false;
  rounding.min = 1;
  return std::min(tokens, expert_capacity(rounding, factor, tokens, num_experts, /*top_k=*/1));
}

Places place_choices(const Tensor& chosen_TE, const Tensor& scores_TE, int64_t places) {
  const Tensor order_TE = at::where(chosen_TE, scores_TE.detach().nan_to_num(/*nan=*/0.0),
                                    -std::numeric_limits<double>::infinity());
  const Tensor experts_TK = select_top_k(order_TE, places);
  return {experts_TK, chosen_TE.gather(/*dim=*/1, experts_TK)};
}

}  // namespace switchyard
