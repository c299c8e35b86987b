#include "moe/routers/hash_router.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <tuple>

#include "base/error.h"
#include "base/random.h"
#include "moe/on_host.h"
#include "moe/routers/fixed_choice.h"

// T tokens, P parts (one expert of each per token), V vocabulary, N slots.

namespace switchyard {

using at::Tensor;

namespace {

constexpr uint64_t kTableKey = 0x5377697463685961;  // of the tables of all runs
constexpr int64_t kHashedSlots = 16384;

/// Slots (T) of (token before, token): before_and_token_2T (2, T) int64.
Tensor bigram_slots(const Tensor& before_and_token_2T) {
  const int64_t T = before_and_token_2T.size(1);
  const RandomStream stream(kTableKey, "hash_bigram");
  Tensor slots_T = at::empty({T}, at::kLong);
  int64_t* slots = slots_T.data_ptr<int64_t>();
  const int64_t *before = before_and_token_2T.data_ptr<int64_t>(), *token = before + T;
  for (int64_t t = 0; t < T; ++t) {
    const uint32_t bits =
        stream.block(static_cast<uint64_t>(before[t] + 1), static_cast<uint64_t>(token[t]))[0];
    slots[t] = static_cast<int64_t>(bits) % kHashedSlots;
  }
  return slots_T;
}

}  // namespace

HashRouter::HashRouter(const RouterConfig& config, const RouterPlace& place)
    : config_(config.hash), place_(place) {
  const std::string parts = std::to_string(config_.parts);
  if (config_.parts != place_.top_k) {
    throw ConfigError("moe.router.hash.parts: " + parts + " is not moe.top_k " +
                      std::to_string(place_.top_k) + "; every part gives a token one expert");
  }
  if (place_.num_experts % config_.parts != 0) {
    throw ConfigError("moe.router.hash.parts: " + parts + " does not divide moe.num_experts " +
                      std::to_string(place_.num_experts));
  }
}

int64_t HashRouter::num_slots() const {
  if (config_.method == "bigram" || config_.method == "position") return kHashedSlots;
  return config_.method == "previous" ? place_.vocab_size + 1 : place_.vocab_size;
}

NamedState HashRouter::initial_state() const {
  const int64_t P = config_.parts, N = num_slots(), block = place_.num_experts / P;
  const RandomStream stream(kTableKey, "hash_table/" + std::to_string(place_.layer));
  Tensor table_PN = at::empty({P, N}, at::kFloat);
  float* out = table_PN.data_ptr<float>();
  for (int64_t p = 0; p < P; ++p) {
    for (int64_t n = 0; n < N; ++n) {
      const auto bucket = static_cast<int64_t>(static_cast<double>(stream.uniform(n, p)) *
                                               static_cast<double>(block));
      out[p * N + n] = static_cast<float>(p * block + bucket);
    }
  }
  return {{"gate.table", table_PN}};
}

Routing HashRouter::route(const Tensor& /*x_TD*/, const RouterTensors& tensors,
                          const TokenContext& context) const {
  const Tensor experts_PT = tensors.state[0].index_select(/*dim=*/1, slots(context));
  return fixed_choice(experts_PT.t().to(at::kLong).contiguous(), place_.num_experts);
}

Tensor HashRouter::slots(const TokenContext& context) const {
  const std::string& method = config_.method;
  if (method == "random" || method == "balanced") return context.tokens_T;
  const int64_t T = context.tokens_T.size(0), S = context.tokens_per_sequence;
  if (method == "position") {
    const Tensor within_T =
        at::arange(T, context.tokens_T.options()).remainder(std::max<int64_t>(S, 1));
    return (within_T + context.first_position).remainder(kHashedSlots);
  }
  TORCH_CHECK(context.previous_T.defined(), "hash router: the tokens before are not known");
  if (method == "previous") return context.previous_T + 1;
  return decided_on_host(at::stack({context.previous_T, context.tokens_T}), bigram_slots);
}

std::vector<int64_t> HashRouter::by_frequency(const Tensor& counts_V, int64_t part) const {
  const int64_t* counts = counts_V.data_ptr<int64_t>();
  const RandomStream stream(kTableKey, "hash_order/" + std::to_string(place_.layer));
  std::vector<double> frequency(counts_V.size(0));
  for (size_t v = 0; v < frequency.size(); ++v) {
    const double jitter = part == 0 ? 1 : 1 + static_cast<double>(stream.uniform(v, part));
    frequency[v] = static_cast<double>(counts[v]) * jitter;
  }
  std::vector<int64_t> ids(frequency.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(),
                   [&](int64_t a, int64_t b) { return frequency[a] > frequency[b]; });
  return ids;
}

void HashRouter::use_token_counts(const Tensor& counts_V, std::vector<Tensor>& state) const {
  if (!wants_token_counts()) return;
  const int64_t V = place_.vocab_size, block = place_.num_experts / config_.parts;
  TORCH_CHECK(counts_V.sizes() == at::IntArrayRef({V}), "hash router: counts of ", counts_V.sizes(),
              " for a vocabulary of ", V);
  const Tensor all_V = counts_V.contiguous();
  const int64_t* counts = all_V.data_ptr<int64_t>();
  Tensor table_PN = state[0].cpu();
  float* table = table_PN.data_ptr<float>();
  for (int64_t p = 0; p < config_.parts; ++p) {
    std::set<std::tuple<int64_t, int64_t, int64_t>> buckets;  // load, ids, expert
    for (int64_t b = 0; b < block; ++b) buckets.emplace(0, 0, p * block + b);
    for (const int64_t v : by_frequency(all_V, p)) {
      const auto [load, ids, expert] = *buckets.begin();
      buckets.erase(buckets.begin());
      buckets.emplace(load + counts[v], ids + 1, expert);
      table[p * V + v] = static_cast<float>(expert);
    }
  }
  state[0].copy_(table_PN);
}

}  // namespace switchyard
