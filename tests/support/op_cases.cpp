#include "support/op_cases.h"

#include <ATen/ATen.h>

#include "ops/activation.h"
#include "ops/causal_attention.h"
#include "ops/dropout.h"
#include "ops/embedding.h"
#include "ops/grouped_matmul.h"
#include "ops/host_copy.h"
#include "ops/linear.h"
#include "ops/permute.h"
#include "ops/recompute.h"
#include "ops/rms_norm.h"
#include "ops/rotary.h"
#include "ops/sort_by_expert.h"
#include "support/evaluate.h"

// T tokens, K choices, E experts, D and F columns.

namespace switchyard {
namespace {

using at::Tensor;
using Inputs = std::vector<Tensor>;

std::string wide(const std::string& name, int64_t D) {
  return name + " of width " + std::to_string(D);
}

/// Weights of a sum have its dtype.
Tensor for_sums(const Tensor& x) {
  return x.to(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

void add_permute(std::vector<OpCase>& cases, int64_t D) {
  constexpr int64_t T = 37, K = 3, E = 5;
  const Tensor experts_TK = at::arange(T * K).mul(7).remainder(E).view({T, K}),
               kept_TK = (at::arange(T * K).remainder(4) != 1).view({T, K});
  const auto map_of = [](const Tensor& experts, const Tensor& kept) {
    return sort_by_expert(experts, kept, E).map(T * K - 28);
  };
  cases.push_back({wide("gather_tokens", D),
                   [=](const Inputs& in) { return gather_tokens(in[0], map_of(in[1], in[2])); },
                   {coarse_tensor({T, D}, "x"), experts_TK, kept_TK}});
  cases.push_back({wide("combine_tokens", D),
                   [=](const Inputs& in) {
                     return combine_tokens(in[0], for_sums(in[1]), map_of(in[2], in[3]));
                   },
                   {coarse_tensor({T * K - 28, D}, "y"), coarse_tensor({T, K}, "weights"),
                    experts_TK, kept_TK}});
  cases.push_back({wide("combine_tokens with padding and a scale of values", D),
                   [](const Inputs& in) {
                     return combine_tokens(in[0], for_sums(in[1]), {in[2], in[3]},
                                           for_sums(in[1].detach()) + 2);
                   },
                   {coarse_tensor({4, D}, "y"), coarse_tensor({2, 2}, "weights"),
                    at::tensor(std::vector<int64_t>{3, -1, 0, 2}),
                    at::tensor(std::vector<int64_t>{2, -1, 3, 0}).view({2, 2})}});
  const RowMap none{at::empty({0}, at::kLong), at::full({3, 2}, -1, at::kLong)};
  cases.push_back(
      {wide("gather and combine of nothing", D),
       [](const Inputs& in) {
         const RowMap map{in[2], in[3]};
         return combine_tokens(gather_tokens(in[0], map), for_sums(in[1]), map);
       },
       {coarse_tensor({3, D}, "x"), coarse_tensor({3, 2}, "weights"), none.pair_S, none.slot_TK}});
}

void add_rows(std::vector<OpCase>& cases, int64_t D) {
  cases.push_back({wide("rms_norm", D),
                   [](const Inputs& in) { return rms_norm(in[0], in[1], 1e-5); },
                   {coarse_tensor({2, 150, D}, "x"), coarse_tensor({D}, "weight")}});
  cases.push_back({wide("swiglu", D),
                   [](const Inputs& in) { return ffn_activation(in[0], Ffn::kSwiGlu); },
                   {coarse_tensor({70, 2 * D}, "h")}});
  cases.push_back({wide("geglu", D),
                   [](const Inputs& in) { return ffn_activation(in[0], Ffn::kGeGlu); },
                   {coarse_tensor({70, 2 * D}, "h")}});
  cases.push_back(
      {wide("embed_tokens", D),
       [](const Inputs& in) { return embed_tokens(in[0], in[1]); },
       {coarse_tensor({11, D}, "weight"), at::arange(60).mul(5).remainder(7).view({3, 20})}});
  cases.push_back({wide("row_dropout", D),
                   [](const Inputs& in) { return row_dropout(in[0], 0.3, 7, "drop", in[1]); },
                   {coarse_tensor({9, D}, "x"), at::arange(9) - 1}});
  cases.push_back({wide("counter_dropout", D),
                   [](const Inputs& in) { return counter_dropout(in[0], 0.3, 7, "drop", in[1]); },
                   {coarse_tensor({3, 5, D}, "x"), at::arange(3) + (int64_t{5} << 32)}});
}

void add_products(std::vector<OpCase>& cases, int64_t D, int64_t F) {
  const std::vector<int64_t> rows_E = {6, 0, 21, 1, 0};
  cases.push_back({wide("grouped_matmul", D),
                   [=](const Inputs& in) { return grouped_matmul(in[0], in[1], rows_E); },
                   {coarse_tensor({28, D}, "x"), coarse_tensor({5, F, D}, "w") / 8}});
  cases.push_back({wide("grouped_matmul of no rows", D),
                   [](const Inputs& in) {
                     return grouped_matmul(in[0], in[1], {0, 0});
                   },
                   {at::empty({0, D}, at::kDouble), coarse_tensor({2, F, D}, "w")}});
  cases.push_back({wide("linear_projection", D),
                   [](const Inputs& in) { return linear_projection(in[0], in[1], in[2]); },
                   {coarse_tensor({2, 9, D}, "x"), coarse_tensor({F, D}, "w") / 8,
                    coarse_tensor({F}, "bias")}});
  cases.push_back({wide("experts, made again", D),
                   [=](const Inputs& in) {
                     const Piece piece = [=](const Inputs& x) {
                       const Tensor h =
                           ffn_activation(grouped_matmul(x[0], x[1], rows_E), Ffn::kSwiGlu);
                       return Inputs{grouped_matmul(h, x[2], rows_E)};
                     };
                     return recomputed(piece, in)[0];
                   },
                   {coarse_tensor({28, D}, "x"), coarse_tensor({5, 2 * F, D}, "in") / 8,
                    coarse_tensor({5, D, F}, "down") / 8}});
}

void add_attention(std::vector<OpCase>& cases, const HeadShape& heads, int64_t turned, int64_t S) {
  const auto table_on = [=](c10::Device device) {
    const Tensor exponent = at::arange(0, turned, 2, at::kDouble) / static_cast<double>(turned);
    return rotary_table(0, S, at::pow(100.0, -exponent).to(device));
  };
  cases.push_back({wide("apply_rotary", heads.width),
                   [=](const Inputs& in) { return apply_rotary(in[0], table_on(in[0].device())); },
                   {coarse_tensor({2, S, heads.query, heads.width}, "x")}});
  // On the host in float64 causal_attention does not fit.
  cases.push_back(
      {wide("causal_attention", heads.width),
       [=](const Inputs& in) {
         const RotaryTable table = table_on(in[0].device());
         return in[0].is_cpu() ? composed_attention(in[0], table, heads)
                               : causal_attention(in[0], table, heads);
       },
       {coarse_tensor({2, S, (heads.query + 2 * heads.key_value) * heads.width}, "qkv")}});
}

}  // namespace

std::vector<OpCase> op_cases() {
  std::vector<OpCase> cases;
  for (const int64_t D : {5, 16, 264}) {
    add_permute(cases, D);
    add_rows(cases, D);
  }
  add_products(cases, 5, 3);
  add_products(cases, 32, 24);
  add_attention(cases, {2, 2, 16}, 16, 70);
  add_attention(cases, {4, 2, 12}, 8, 33);
  return cases;
}

}  // namespace switchyard
