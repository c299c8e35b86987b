#include "ops/gemm_peak.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>

#include "ops/blocked_gemm.h"
#include "ops/host_copy.h"

namespace switchyard {

namespace {

/// Of numbers that differ: a GPU multiplies ones faster than a model's. In place, since the
/// process keeps what it has taken from the host.
at::Tensor some_matrix(int64_t size, const at::TensorOptions& options) {
  return at::arange(size * size, options.dtype(at::kFloat))
      .remainder_(61)
      .sub_(30)
      .view({size, size})
      .to(options);
}

}  // namespace

double measure_gemm_peak(at::ScalarType dtype, c10::Device device) {
  using Clock = std::chrono::steady_clock;
  const int64_t size = device.is_cuda() ? 8192 : 1024;
  const auto flop = 2.0 * static_cast<double>(size * size * size);
  const c10::NoGradGuard no_grad;
  const bool widens = device.is_cpu() && dtype == at::kBFloat16 && !multiplies_bfloat16();
  const auto options = at::device(device).dtype(widens ? at::kFloat : dtype);
  const at::Tensor a = some_matrix(size, options), b = some_matrix(size, options);
  at::Tensor c = at::empty({size, size}, options);
  at::mm_out(c, a, b);
  wait_for(device);
  double best = 0;
  const auto end = Clock::now() + std::chrono::milliseconds(200);
  do {
    const auto start = Clock::now();
    at::mm_out(c, a, b);
    wait_for(device);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::max(best, flop / seconds);
  } while (Clock::now() < end);
  return best;
}

}  // namespace switchyard
