#include "moe/capacity.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/random.h"

namespace switchyard {
namespace {

using at::Tensor;

/// A factor is a decimal that someone wrote, and 0.56 * 100 / 8 is 7 though a little
/// more in binary: a whole number is meant where x is one but for its last bits.
double rounded(const std::string& word, double x) {
  const double whole = std::nearbyint(x);
  if (word == "nearest" || std::abs(x - whole) < 1e-9 * std::max(whole, 1.0)) return whole;
  return word == "floor" ? std::floor(x) : std::ceil(x);
}

/// Tokens of the group that starts at `begin`, in the order in which they are served.
std::vector<int64_t> token_order(int64_t begin, const Tensor& probs_TK, Priority priority,
                                 int64_t layer, const TokenContext& context) {
  std::vector<int64_t> order(context.tokens_per_group);
  std::iota(order.begin(), order.end(), begin);
  if (priority == Priority::kProbability) {
    const float* probs = probs_TK.data_ptr<float>();
    const int64_t K = probs_TK.size(1);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return probs[a * K] > probs[b * K]; });
  }
  if (priority == Priority::kRandom) {
    const RandomStream stream(context.seed, "capacity/" + std::to_string(layer));
    const int64_t S = context.tokens_per_sequence;
    const int64_t* sequence = context.order_B.data_ptr<int64_t>();
    std::vector<float> key(context.tokens_per_group);
    for (const int64_t t : order) key[t - begin] = stream.uniform(t % S, sequence[t / S]);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return key[a - begin] < key[b - begin]; });
  }
  return order;
}

}  // namespace

Priority parse_priority(const std::string& word) {
  if (word == "position") return Priority::kPosition;
  if (word == "choice") return Priority::kChoice;
  if (word == "probability") return Priority::kProbability;
  TORCH_CHECK(word == "random", "moe.capacity.priority: ", word);
  return Priority::kRandom;
}

int64_t expert_capacity(const CapacityConfig& capacity, double factor, int64_t tokens,
                        int64_t num_experts, int64_t top_k) {
  const double choices =
      static_cast<double>(tokens) * static_cast<double>(capacity.counts_k ? top_k : 1);
  const auto slots = static_cast<int64_t>(
      rounded(capacity.round, factor * choices / static_cast<double>(num_experts)));
  const int64_t at_least = std::max(slots, capacity.min);
  return (at_least + capacity.multiple_of - 1) / capacity.multiple_of * capacity.multiple_of;
}

void drop_over_capacity(const Tensor& experts_TK, const Tensor& probs_TK, int64_t num_experts,
                        int64_t capacity, Priority priority, int64_t layer,
                        const TokenContext& context, Tensor& kept_TK) {
  const int64_t T = experts_TK.size(0), K = experts_TK.size(1), group = context.tokens_per_group;
  TORCH_CHECK(T == 0 || T % group == 0, "routing groups of ", group, " tokens do not fit ", T,
              " tokens");
  const Tensor probs = probs_TK.contiguous();
  const int64_t* experts = experts_TK.data_ptr<int64_t>();
  bool* kept = kept_TK.data_ptr<bool>();
  std::vector<int64_t> used(num_experts);
  const auto serve = [&](int64_t t, int64_t k) {
    bool& keep = kept[t * K + k];
    if (keep) keep = used[experts[t * K + k]]++ < capacity;
  };
  const bool all_first_choices_first =
      priority == Priority::kChoice || priority == Priority::kProbability;
  for (int64_t begin = 0; begin < T; begin += group) {
    std::fill(used.begin(), used.end(), 0);
    const auto order = token_order(begin, probs, priority, layer, context);
    if (all_first_choices_first) {
      for (int64_t k = 0; k < K; ++k) {
        for (const int64_t t : order) serve(t, k);
      }
    } else {
      for (const int64_t t : order) {
        for (int64_t k = 0; k < K; ++k) serve(t, k);
      }
    }
  }
}

}  // namespace switchyard
