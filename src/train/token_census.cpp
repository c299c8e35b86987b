#include "train/token_census.h"

#include <ATen/ATen.h>

#include <algorithm>

// T = B * S tokens, K experts per token, L MoE layers, E experts.

namespace switchyard {
namespace {

using at::Tensor;

/// The rows (N, 2) of all ranks on rank 0, none on the others. Collective.
Tensor gather_rows(const Tensor& mine_N2, Communicator& world) {
  Tensor sizes_W = at::empty({world.size()}, at::kLong);
  world.all_gather(at::full({1}, mine_N2.size(0), at::kLong), sizes_W, "sizes of token counts");
  std::vector<int64_t> to(world.size(), 0), from(world.size(), 0);
  to[0] = mine_N2.size(0);
  const int64_t* sizes = sizes_W.data_ptr<int64_t>();
  if (world.rank() == 0) from.assign(sizes, sizes + world.size());
  return world.all_to_all(mine_N2, to, from, "tokens of the experts");
}

void keep_top(std::vector<TokenShare>& tokens, int64_t count) {
  const auto before = [](const TokenShare& a, const TokenShare& b) {
    return a.copies != b.copies ? a.copies > b.copies : a.id < b.id;
  };
  const auto n = std::min<int64_t>(count, static_cast<int64_t>(tokens.size()));
  std::partial_sort(tokens.begin(), tokens.begin() + n, tokens.end(), before);
  tokens.resize(static_cast<size_t>(n));
}

}  // namespace

void TokenCensus::add(const Tensor& tokens_BS, const std::vector<RouterRecord>& records) {
  copies_L_.resize(records.size());
  const Tensor tokens_T = tokens_BS.cpu().flatten().contiguous();
  const int64_t* tokens = tokens_T.data_ptr<int64_t>();
  for (size_t l = 0; l < records.size(); ++l) {
    const RouterRecord& record = records[l];
    if (l == 0) tokens_ += static_cast<int64_t>(record.counts.tokens_G.sum().item<double>());
    const int64_t E = record.counts.all_GE.size(1), K = record.chosen_TK.size(1);
    const Tensor chosen_TK = record.chosen_TK.cpu().contiguous();
    const int64_t* chosen = chosen_TK.data_ptr<int64_t>();
    for (int64_t pair = 0; pair < chosen_TK.numel(); ++pair) {
      if (chosen[pair] >= 0) ++copies_L_[l][tokens[pair / K] * E + chosen[pair]];
    }
  }
}

int64_t TokenCensus::tokens(Communicator& world) const {
  Tensor sum = at::full({1}, tokens_, at::kLong);
  world.all_reduce(sum, ReduceOp::kSum, "tokens of the evaluation");
  return sum.item<int64_t>();
}

std::vector<std::vector<ExpertTokens>> TokenCensus::top(int64_t num_experts, int64_t count,
                                                        Communicator& world) const {
  std::vector<std::vector<ExpertTokens>> layers;
  for (const Counts& mine : copies_L_) {
    Tensor mine_N2 = at::empty({static_cast<int64_t>(mine.size()), 2}, at::kLong);
    int64_t* row = mine_N2.data_ptr<int64_t>();
    for (const auto& [key, copies] : mine) {
      *row++ = key;
      *row++ = copies;
    }
    const Tensor all_N2 = gather_rows(mine_N2, world);
    if (world.rank() != 0) continue;
    Counts all, of_token;
    const int64_t* rows = all_N2.data_ptr<int64_t>();
    for (int64_t n = 0; n < all_N2.size(0); ++n) {
      all[rows[2 * n]] += rows[2 * n + 1];
      of_token[rows[2 * n] / num_experts] += rows[2 * n + 1];
    }
    std::vector<ExpertTokens> experts(static_cast<size_t>(num_experts));
    for (const auto& [key, copies] : all) {
      const int64_t id = key / num_experts;
      ExpertTokens& expert = experts[static_cast<size_t>(key % num_experts)];
      expert.copies += copies;
      const double share = static_cast<double>(copies) / static_cast<double>(of_token[id]);
      expert.top.push_back({id, "", copies, share});
    }
    for (ExpertTokens& expert : experts) keep_top(expert.top, count);
    layers.push_back(std::move(experts));
  }
  return layers;
}

}  // namespace switchyard
