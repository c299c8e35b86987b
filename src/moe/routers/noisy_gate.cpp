#include "moe/routers/noisy_gate.h"

#include <ATen/ATen.h>

#include "moe/routers/smooth_load.h"
#include "moe/select_top_k.h"

namespace switchyard {

NoisyGate noisy_gate(const at::Tensor& clean_NM, const at::Tensor& raw_NM,
                     const at::Tensor& noise_NM, double eps, int64_t top_k) {
  NoisyGate gate;
  at::Tensor sigma_NM;
  gate.noisy_NM = clean_NM;
  if (noise_NM.defined()) {
    sigma_NM = at::softplus(raw_NM) + eps;
    gate.noisy_NM = clean_NM + noise_NM * sigma_NM;
  }
  gate.experts_NK = select_top_k(gate.noisy_NM.detach(), top_k);
  gate.weights_NK = gate.noisy_NM.gather(/*dim=*/1, gate.experts_NK).softmax(/*dim=*/1);
  gate.gates_NM =
      at::zeros_like(clean_NM.detach()).scatter(/*dim=*/1, gate.experts_NK, gate.weights_NK);
  gate.load_NM = sigma_NM.defined() && top_k < clean_NM.size(1)
                     ? load_against_others(clean_NM, gate.noisy_NM, sigma_NM, top_k)
                     : hard_load(gate.experts_NK, clean_NM);
  return gate;
}

}  // namespace switchyard
