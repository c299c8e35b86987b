#include "loss/communication_balance.h"

#include <ATen/ATen.h>

namespace switchyard {

at::Tensor devices_of_tokens(const at::Tensor& chosen_TK, int64_t num_experts, int64_t devices) {
  TORCH_CHECK(chosen_TK.dim() == 2 && devices >= 1 && num_experts % devices == 0,
              "devices_of_tokens: chosen_TK ", chosen_TK.sizes(), ", experts ", num_experts,
              ", devices ", devices);
  const at::Tensor device_TK =
      at::floor_divide(chosen_TK + num_experts / devices, num_experts / devices);  // 0: none
  return at::zeros({chosen_TK.size(0), devices + 1}, chosen_TK.options().dtype(at::kDouble))
      .scatter_(/*dim=*/1, device_TK, 1.0)
      .narrow(/*dim=*/1, 1, devices);
}

at::Tensor communication_fractions(const at::Tensor& sent_GN, const at::Tensor& tokens_G,
                                   int64_t limit, int64_t num_experts) {
  const int64_t N = sent_GN.size(1);
  TORCH_CHECK(sent_GN.dim() == 2 && tokens_G.dim() == 1 && sent_GN.size(0) == tokens_G.size(0) &&
                  limit >= 1 && num_experts % N == 0,
              "communication_fractions: sent_GN ", sent_GN.sizes(), ", tokens_G ", tokens_G.sizes(),
              ", limit ", limit, ", experts ", num_experts);
  const double factor =
      static_cast<double>(N) / (static_cast<double>(limit) * static_cast<double>(num_experts));
  const at::Tensor f_GN = factor * sent_GN / tokens_G.unsqueeze(1).clamp_min(1.0);
  return f_GN.repeat_interleave(num_experts / N, /*dim=*/1).to(at::kFloat);
}

}  // namespace switchyard
