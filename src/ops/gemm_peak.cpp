#include "ops/gemm_peak.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>

namespace switchyard {

double measure_gemm_peak(at::ScalarType dtype) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kSize = 1024;
  const c10::NoGradGuard no_grad;
  const at::Tensor a = at::ones({kSize, kSize}, dtype), b = at::ones({kSize, kSize}, dtype);
  at::Tensor c = at::empty({kSize, kSize}, dtype);
  at::mm_out(c, a, b);
  double best = 0;
  const auto end = Clock::now() + std::chrono::milliseconds(200);
  do {
    const auto start = Clock::now();
    at::mm_out(c, a, b);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::max(best, 2.0 * kSize * kSize * kSize / seconds);
  } while (Clock::now() < end);
  return best;
}

}  // namespace switchyard
