#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "train/session.h"

namespace switchyard {

/// How the next token is chosen. temperature 0 is greedy. top_k 0 and top_p 1
/// leave all tokens in; top_p keeps the smallest set of probability >= top_p
/// (Holtzman et al., arXiv:1904.09751), after top_k.
struct SamplingOptions {
  int64_t max_new_tokens = 128;
  double temperature = 1.0;
  int64_t top_k = 0;
  double top_p = 1.0;
  uint64_t seed = 1234;
  std::optional<int64_t> domain = {};  // source of data.path, for routers that choose by it
};

/// Chooses from vocabulary logits (V) float32; ids from `vocabulary` on are never
/// chosen (padding of the embedding). `u` uniform in [0, 1). Pure.
int64_t choose_token(const at::Tensor& logits_V, const SamplingOptions& options, int64_t vocabulary,
                     double u);

/// Continues `prompt` (token ids, not empty) with a KV cache until
/// one of `ends` or max_new_tokens. Rank 0 computes; the other ranks serve their
/// experts and get the same tokens. `on_token` is called on every rank with each
/// new token. Returns the new tokens, the end excluded. Draws are
/// counter-based: the same seed gives the same text, up to rounding between
/// layouts. Throws ConfigError when the router needs a domain and has none.
/// Collective over all groups of the mesh.
std::vector<int64_t> generate(Session& session, const std::vector<int64_t>& prompt,
                              const SamplingOptions& options, int64_t vocabulary,
                              const std::vector<int64_t>& ends,
                              const std::function<void(int64_t)>& on_token);

}  // namespace switchyard
