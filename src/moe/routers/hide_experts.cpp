#include "moe/routers/hide_experts.h"

#include <ATen/ATen.h>

#include <limits>

#include "base/random.h"
#include "ops/host_copy.h"

namespace switchyard {

at::Tensor hide_experts(const at::Tensor& choice_TE, double rate, int64_t layer,
                        const TokenContext& context) {
  const int64_t T = choice_TE.size(0), E = choice_TE.size(1);
  if (rate == 0.0 || context.mode != Mode::kTrain || T == 0) return choice_TE;
  const int64_t group = context.tokens_per_group, G = T / group;
  TORCH_CHECK(T % group == 0, "routing groups of ", group, " tokens do not fit ", T, " tokens");
  const RandomStream stream(context.seed, "hidden_experts/" + std::to_string(layer));
  const int64_t* order = context.order_B.data_ptr<int64_t>();
  const at::Tensor hidden_GE = at::empty({G, E}, at::kBool);
  bool* hidden = hidden_GE.data_ptr<bool>();
  for (int64_t g = 0; g < G; ++g) {
    const int64_t first = order[g * group / context.tokens_per_sequence];
    for (int64_t e = 0; e < E; ++e) hidden[g * E + e] = stream.uniform(e, first) < rate;
  }
  const at::Tensor there_GE = copy_to_device(hidden_GE, choice_TE.device());
  return choice_TE.masked_fill(there_GE.repeat_interleave(group, /*dim=*/0),
                               -std::numeric_limits<double>::infinity());
}

}  // namespace switchyard
