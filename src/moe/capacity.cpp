#include "moe/capacity.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/random.h"
#include "ops/host_copy.h"

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

/// What tokens are sorted by, (T) float32; undefined under the other priorities.
Tensor token_score(Priority priority, const Tensor& probs_TK, const Tensor& kept_TK) {
  if (priority == Priority::kProbability) return probs_TK.select(/*dim=*/1, 0).contiguous();
  if (priority == Priority::kProbabilitySum) return (probs_TK * kept_TK).sum(/*dim=*/1);
  return {};
}

/// Tokens of the group that starts at `begin`, in the order in which they are served.
std::vector<int64_t> token_order(int64_t begin, const Tensor& score_T, Priority priority,
                                 int64_t layer, const TokenContext& context) {
  std::vector<int64_t> order(context.tokens_per_group);
  std::iota(order.begin(), order.end(), begin);
  if (score_T.defined()) {
    const float* score = score_T.data_ptr<float>();
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return score[a] > score[b]; });
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

void check_groups(int64_t tokens, const TokenContext& context) {
  TORCH_CHECK(tokens == 0 || tokens % context.tokens_per_group == 0, "routing groups of ",
              context.tokens_per_group, " tokens do not fit ", tokens, " tokens");
}

/// The slots of one routing group, and who holds them.
class Slots {
 public:
  Slots(int64_t num_experts, int64_t capacity, Tensor& experts_TK, Tensor& kept_TK,
        const Tensor& reroute_TR, Tensor& rerouted_TK)
      : K_(experts_TK.size(1)),
        R_(reroute_TR.defined() ? reroute_TR.size(1) : 0),
        capacity_(capacity),
        experts_(experts_TK.data_ptr<int64_t>()),
        further_(R_ > 0 ? reroute_TR.data_ptr<int64_t>() : nullptr),
        kept_(kept_TK.data_ptr<bool>()),
        rerouted_(rerouted_TK.data_ptr<bool>()),
        asked_TK_(R_ > 0 ? kept_TK.clone() : Tensor()),
        used_(num_experts) {}

  void clear() { std::fill(used_.begin(), used_.end(), 0); }

  /// Choice k of token t takes a slot, or is dropped.
  void serve(int64_t t, int64_t k) {
    bool& keep = kept_[t * K_ + k];
    if (keep) keep = used_[experts_[t * K_ + k]]++ < capacity_;
  }

  /// Further choice r of token t takes a slot if the token has none.
  void reroute(int64_t t, int64_t r) {
    const bool *asked = asked_TK_.data_ptr<bool>() + t * K_, *kept = kept_ + t * K_;
    const int64_t e = further_[t * R_ + r], k = std::find(asked, asked + K_, true) - asked;
    if (e < 0 || k == K_ || used_[e] >= capacity_ || std::find(kept, kept + K_, true) != kept + K_)
      return;
    used_[e] += 1;
    experts_[t * K_ + k] = e;
    kept_[t * K_ + k] = rerouted_[t * K_ + k] = true;
  }

 private:
  int64_t K_, R_, capacity_;
  int64_t* experts_;
  const int64_t* further_;
  bool *kept_, *rerouted_;
  Tensor asked_TK_;
  std::vector<int64_t> used_;
};

/// Tokens of all groups in the order in which they are served: (G, N) int64, on the device of
/// what they chose.
Tensor token_orders(const Tensor& experts_TK, const Tensor& score_T, Priority priority,
                    int64_t layer, const TokenContext& context) {
  const int64_t T = experts_TK.size(0), N = context.tokens_per_group;
  if (priority == Priority::kRandom) {
    std::vector<int64_t> all;
    for (int64_t begin = 0; begin < T; begin += N) {
      const auto order = token_order(begin, score_T, priority, layer, context);
      all.insert(all.end(), order.begin(), order.end());
    }
    return copy_to_device(at::tensor(all, at::kLong).view({-1, N}), experts_TK.device());
  }
  const Tensor in_place_GN = at::arange(T, experts_TK.options()).view({-1, N});
  if (!score_T.defined()) return in_place_GN;
  const Tensor within_GN = at::argsort(score_T.view({-1, N}), /*stable=*/true, /*dim=*/1,
                                       /*descending=*/true);
  return within_GN + in_place_GN.narrow(/*dim=*/1, 0, 1);
}

/// What Slots decides, without a loop and without the host: a pair is kept when fewer than
/// `capacity` pairs that are served before it want its expert in its group.
void drop_composed(const Tensor& experts_TK, const Tensor& score_T, int64_t num_experts,
                   int64_t capacity, Priority priority, int64_t layer, const TokenContext& context,
                   Tensor& kept_TK) {
  const int64_t T = experts_TK.size(0), K = experts_TK.size(1), N = context.tokens_per_group,
                P = T * K;
  if (T == 0) return;
  const bool token_by_token = priority == Priority::kPosition || priority == Priority::kRandom;
  const Tensor choice_K = at::arange(K, experts_TK.options());
  const Tensor pairs_GNK =
      token_orders(experts_TK, score_T, priority, layer, context).unsqueeze(2) * K + choice_K;
  const Tensor served_P = (token_by_token ? pairs_GNK : pairs_GNK.transpose(1, 2)).reshape({P});

  const Tensor kept_P = kept_TK.reshape({P}).index_select(0, served_P);
  const Tensor queue_P = served_P.div(N * K, /*rounding_mode=*/"floor") * num_experts +
                         experts_TK.reshape({P}).index_select(0, served_P);  // (group, expert)
  const int64_t queues = T / N * num_experts;
  const Tensor key_P = at::where(kept_P, queue_P, queues);
  const Tensor by_queue_P = at::argsort(key_P, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  const Tensor length_Q =
      at::zeros({queues + 1}, key_P.options()).scatter_add_(0, key_P, at::ones_like(key_P));
  const Tensor begin_Q = length_Q.cumsum(0) - length_Q;
  const Tensor place_P =
      at::arange(P, key_P.options()) - begin_Q.index_select(0, key_P.index_select(0, by_queue_P));
  const Tensor keeps_P = place_P < capacity;
  kept_TK.logical_and_(at::empty_like(keeps_P)
                           .scatter_(0, served_P.index_select(0, by_queue_P), keeps_P)
                           .view({T, K}));
}

}  // namespace

Priority parse_priority(const std::string& word) {
  if (word == "position") return Priority::kPosition;
  if (word == "choice") return Priority::kChoice;
  if (word == "probability") return Priority::kProbability;
  if (word == "probability_sum") return Priority::kProbabilitySum;
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
  if (!experts_TK.is_cpu()) {
    check_groups(experts_TK.size(0), context);
    drop_composed(experts_TK, token_score(priority, probs_TK, kept_TK), num_experts, capacity,
                  priority, layer, context, kept_TK);
    return;
  }
  Tensor unchanged_TK = experts_TK;
  drop_and_reroute({}, unchanged_TK, probs_TK, num_experts, capacity, priority, layer, context,
                   kept_TK);
}

Tensor drop_and_reroute(const Tensor& reroute_TR, Tensor& experts_TK, const Tensor& probs_TK,
                        int64_t num_experts, int64_t capacity, Priority priority, int64_t layer,
                        const TokenContext& context, Tensor& kept_TK) {
  const int64_t T = experts_TK.size(0), K = experts_TK.size(1), group = context.tokens_per_group,
                R = reroute_TR.defined() ? reroute_TR.size(1) : 0;
  check_groups(T, context);
  if (!experts_TK.is_cpu()) {
    Tensor experts = experts_TK.cpu(), kept = kept_TK.cpu();
    const Tensor rerouted =
        drop_and_reroute(reroute_TR.defined() ? reroute_TR.cpu() : reroute_TR, experts,
                         probs_TK.cpu(), num_experts, capacity, priority, layer, context, kept);
    experts_TK.copy_(experts);
    kept_TK.copy_(kept);
    return rerouted.to(experts_TK.device());
  }
  Tensor rerouted_TK = at::zeros(experts_TK.sizes(), at::kBool);
  const Tensor score_T = token_score(priority, probs_TK, kept_TK);
  Slots slots(num_experts, capacity, experts_TK, kept_TK, reroute_TR, rerouted_TK);
  const bool token_by_token = priority == Priority::kPosition || priority == Priority::kRandom;
  for (int64_t begin = 0; begin < T; begin += group) {
    slots.clear();
    const auto order = token_order(begin, score_T, priority, layer, context);
    if (token_by_token) {
      for (const int64_t t : order) {
        for (int64_t k = 0; k < K; ++k) slots.serve(t, k);
        for (int64_t r = 0; r < R; ++r) slots.reroute(t, r);
      }
    } else {
      for (int64_t k = 0; k < K; ++k) {
        for (const int64_t t : order) slots.serve(t, k);
      }
      for (int64_t r = 0; r < R; ++r) {
        for (const int64_t t : order) slots.reroute(t, r);
      }
    }
  }
  return rerouted_TK;
}

}  // namespace switchyard
