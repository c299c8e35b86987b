#include "moe/device_budget.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "base/random.h"

namespace switchyard {
namespace {

/// Keeps the protected pairs and the most probable others, `slots` in all if possible.
void keep_best(std::vector<int64_t>& pairs, int64_t slots, const std::vector<char>& is_protected,
               const float* probs, bool* kept) {
  if (static_cast<int64_t>(pairs.size()) <= slots) return;
  std::ranges::stable_sort(pairs, [&](int64_t a, int64_t b) {
    if (is_protected[a] != is_protected[b]) return is_protected[a] > is_protected[b];
    return probs[a] > probs[b];
  });
  for (size_t i = slots; i < pairs.size(); ++i) kept[pairs[i]] = is_protected[pairs[i]] != 0;
}

}  // namespace

bool is_protected(int64_t order, double fraction, uint64_t seed) {
  return RandomStream(seed, "protected_sequences").uniform(0, order) < fraction;
}

void drop_over_device_budget(const at::Tensor& experts_TK, const at::Tensor& probs_TK,
                             const DeviceBudget& budget, const TokenContext& context,
                             at::Tensor& kept_TK) {
  const int64_t T = experts_TK.size(0), K = experts_TK.size(1), group = context.tokens_per_group,
                S = context.tokens_per_sequence;
  TORCH_CHECK(T == 0 || T % group == 0, "routing groups of ", group, " tokens do not fit ", T,
              " tokens");
  TORCH_CHECK(budget.num_experts % budget.groups == 0, budget.num_experts, " experts in ",
              budget.groups, " groups");
  if (!experts_TK.is_cpu()) {
    at::Tensor kept = kept_TK.cpu();
    drop_over_device_budget(experts_TK.cpu(), probs_TK.cpu(), budget, context, kept);
    kept_TK.copy_(kept);
    return;
  }
  const int64_t experts_per_group = budget.num_experts / budget.groups;
  const at::Tensor probs_contiguous_TK = probs_TK.contiguous();
  const int64_t *experts = experts_TK.data_ptr<int64_t>(),
                *order = context.order_B.data_ptr<int64_t>();
  const float* probs = probs_contiguous_TK.data_ptr<float>();
  bool* kept = kept_TK.data_ptr<bool>();

  std::vector<char> guarded(T * K);
  for (int64_t t = 0; t < T; ++t) {
    if (!is_protected(order[t / S], budget.protected_fraction, context.seed)) continue;
    std::fill_n(guarded.begin() + t * K, K, char{1});
  }
  for (int64_t begin = 0; begin < T; begin += group) {
    std::vector<std::vector<int64_t>> pairs_of(budget.groups);
    for (int64_t pair = begin * K; pair < (begin + group) * K; ++pair) {
      if (kept[pair]) pairs_of[experts[pair] / experts_per_group].push_back(pair);
    }
    for (auto& pairs : pairs_of) keep_best(pairs, budget.slots, guarded, probs, kept);
  }
}

}  // namespace switchyard
