// The build without CUDA: what kernels.h says there.

#include "ops/cuda/kernels.h"

namespace switchyard::cuda {
namespace {

using at::Tensor;

[[noreturn]] void no_kernels() { TORCH_CHECK(false, "a kernel of a build without CUDA"); }

}  // namespace

bool has_grouped_mm() { return false; }

Tensor copy_rows(const Tensor&, const Tensor&, int64_t) { no_kernels(); }
Tensor sum_slots(const Tensor&, const Tensor&, const Tensor&) { no_kernels(); }
CombineGradients combine_gradients(const Tensor&, const Tensor&, const RowMap&, const Tensor&) {
  no_kernels();
}
NormRows rms_norm(const Tensor&, const Tensor&, double) { no_kernels(); }
NormGradients rms_norm_gradients(const Tensor&, const Tensor&, const Tensor&, const Tensor&) {
  no_kernels();
}
Tensor rotate(const Tensor&, const Tensor&, const Tensor&, double) { no_kernels(); }
Tensor swiglu(const Tensor&) { no_kernels(); }
Tensor swiglu_gradient(const Tensor&, const Tensor&) { no_kernels(); }
void adamw_update(const AdamWTensors&, const AdamWFactors&) { no_kernels(); }
SortedPairs sort_by_expert(const Tensor&, const Tensor&, int64_t) { no_kernels(); }

}  // namespace switchyard::cuda
