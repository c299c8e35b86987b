#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "ops/cuda/kernels.h"
#include "ops/cuda/sort_kernels.cuh"

namespace switchyard::cuda {

using at::Tensor;

SortedPairs sort_by_expert(const Tensor& experts_TK, const Tensor& kept_TK, int64_t num_experts) {
  const c10::cuda::CUDAGuard guard(experts_TK.device());
  const int64_t pairs = experts_TK.numel();
  SortedPairs sorted{at::empty({pairs}, experts_TK.options()),
                     at::empty(experts_TK.sizes(), experts_TK.options()),
                     at::zeros({num_experts}, experts_TK.options())};
  if (pairs == 0) return sorted;
  const auto blocks = static_cast<unsigned>((pairs + kPairsPerBlock - 1) / kPairsPerBlock);
  const size_t shared_bytes = static_cast<size_t>(num_experts + 1) * sizeof(int64_t);
  const auto E = static_cast<int>(num_experts);
  TORCH_CHECK(shared_bytes <= 48 * 1024, "sort_by_expert: ", num_experts, " experts");
  const auto* experts = experts_TK.const_data_ptr<int64_t>();
  const auto* kept = kept_TK.const_data_ptr<bool>();
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream().stream();
  const Tensor counts = at::empty({num_experts + 1, blocks}, experts_TK.options());
  count_pairs_kernel<<<blocks, 32, shared_bytes, stream>>>(experts, kept, pairs, E,
                                                           counts.mutable_data_ptr<int64_t>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  const Tensor begins = counts.flatten().cumsum(/*dim=*/0).sub_(counts.flatten());
  place_pairs_kernel<<<blocks, 32, shared_bytes, stream>>>(
      experts, kept, pairs, E, begins.const_data_ptr<int64_t>(),
      sorted.order.mutable_data_ptr<int64_t>(), sorted.slot_TK.mutable_data_ptr<int64_t>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  sorted.rows_E = counts.sum(/*dim=*/1).narrow(0, 0, num_experts);
  return sorted;
}

}  // namespace switchyard::cuda
