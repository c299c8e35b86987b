#include "ops/sort_by_expert.h"

#include <ATen/ATen.h>

#include <vector>

#include "ops/composed.h"
#include "ops/cuda/kernels.h"

namespace switchyard {
namespace {

using at::Tensor;

SortedPairs sort_on_host(const Tensor& experts_TK, const Tensor& kept_TK, int64_t num_experts) {
  const int64_t pairs = experts_TK.numel();
  const int64_t* experts = experts_TK.data_ptr<int64_t>();
  const bool* kept = kept_TK.data_ptr<bool>();
  SortedPairs sorted{at::empty({pairs}, at::kLong), at::full(experts_TK.sizes(), -1, at::kLong),
                     at::zeros({num_experts}, at::kLong)};
  int64_t *order = sorted.order.data_ptr<int64_t>(), *slots = sorted.slot_TK.data_ptr<int64_t>(),
          *rows = sorted.rows_E.data_ptr<int64_t>();
  for (int64_t pair = 0; pair < pairs; ++pair) rows[experts[pair]] += kept[pair] ? 1 : 0;
  std::vector<int64_t> next(num_experts);
  int64_t dropped = 0;  // the place of the next of them
  for (int64_t e = 0; e < num_experts; ++e) {
    next[e] = dropped;
    dropped += rows[e];
  }
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const int64_t slot = kept[pair] ? next[experts[pair]]++ : dropped++;
    order[slot] = pair;
    if (kept[pair]) slots[pair] = slot;
  }
  return sorted;
}

}  // namespace

RowMap SortedPairs::map(int64_t rows) const { return {order.narrow(0, 0, rows), slot_TK}; }

SortedPairs sort_by_expert(const Tensor& experts_TK, const Tensor& kept_TK, int64_t num_experts) {
  TORCH_CHECK(experts_TK.dim() == 2 && kept_TK.sizes() == experts_TK.sizes() &&
                  experts_TK.scalar_type() == at::kLong && kept_TK.scalar_type() == at::kBool,
              "sort_by_expert: experts_TK ", experts_TK.sizes(), " ", experts_TK.dtype(),
              ", kept_TK ", kept_TK.sizes(), " ", kept_TK.dtype());
  const Tensor experts = experts_TK.contiguous(), kept = kept_TK.contiguous();
  if (experts.is_cpu()) return sort_on_host(experts, kept, num_experts);
  return experts.is_cuda() ? cuda::sort_by_expert(experts, kept, num_experts)
                           : composed::sort_by_expert(experts, kept, num_experts);
}

}  // namespace switchyard
