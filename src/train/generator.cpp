#include "train/generator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "train/domain.h"

namespace switchyard {

using at::Tensor;

int64_t choose_token(const Tensor& logits_V, const SamplingOptions& options, int64_t vocabulary,
                     double u) {
  const Tensor known_V = logits_V.to(at::kFloat).narrow(0, 0, vocabulary);
  if (options.temperature == 0.0) return known_V.argmax().item<int64_t>();
  const auto [sorted_V, ids_V] = known_V.sort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
  const int64_t candidates = options.top_k > 0 ? std::min(options.top_k, vocabulary) : vocabulary;
  const Tensor probs =
      (sorted_V.narrow(0, 0, candidates) / options.temperature).softmax(0).to(at::kDouble);
  const double* p = probs.data_ptr<double>();
  int64_t kept = 0;
  double mass = 0;
  while (kept < candidates && mass < options.top_p) mass += p[kept++];
  double left = u * mass;
  int64_t chosen = 0;
  while (chosen + 1 < kept && left >= p[chosen]) left -= p[chosen++];
  return ids_V[chosen].item<int64_t>();
}

namespace {

/// Rank 0 has the sequence, the others none: they only serve their experts.
DecoderInput input_of(const std::vector<int64_t>& tokens, std::optional<int64_t> domain,
                      bool is_root) {
  DecoderInput input;
  input.mode = Mode::kEval;
  const auto S = static_cast<int64_t>(tokens.size());
  input.tokens_BS =
      is_root ? at::tensor(tokens, at::kLong).view({1, S}) : at::empty({0, S}, at::kLong);
  if (domain) input.domains_B = at::full({input.tokens_BS.size(0)}, *domain, at::kLong);
  return input;
}

}  // namespace

std::vector<int64_t> generate(Session& session, const std::vector<int64_t>& prompt,
                              const SamplingOptions& options, int64_t vocabulary,
                              const std::vector<int64_t>& ends,
                              const std::function<void(int64_t)>& on_token) {
  const c10::NoGradGuard no_grad;
  TORCH_CHECK(!prompt.empty(), "generate: the prompt has no tokens");
  require_domain(session.config(), options.domain);
  const RandomStream stream(options.seed, "generate");
  std::vector<int64_t> produced, next = prompt;
  KvCache cache;
  for (int64_t n = 0; n < options.max_new_tokens; ++n) {
    const Tensor hidden_TD = session.decoder()
                                 .forward(input_of(next, options.domain, session.is_root()), &cache)
                                 .hidden_TD;
    Tensor token = at::zeros({1}, at::kLong);
    if (session.is_root()) {
      const Tensor logits_V =
          session.decoder().logits(hidden_TD.narrow(0, hidden_TD.size(0) - 1, 1)).view({-1}).cpu();
      token[0] =
          choose_token(logits_V, options, vocabulary, stream.uniform(static_cast<uint64_t>(n)));
    }
    session.mesh().world->broadcast(token, 0, "generated token");
    const int64_t id = token.item<int64_t>();
    if (std::ranges::find(ends, id) != ends.end()) break;
    produced.push_back(id);
    on_token(id);
    next = {id};
  }
  return produced;
}

}  // namespace switchyard
