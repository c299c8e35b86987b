#include "support/loss_cases.h"

#include <ATen/ATen.h>

#include "loss/communication_balance.h"
#include "loss/cross_entropy.h"
#include "loss/entropy.h"
#include "loss/linear_cross_entropy.h"
#include "loss/load_balancing.h"
#include "loss/router_z.h"
#include "loss/sparsity_l1.h"
#include "loss/squared_variation.h"
#include "support/evaluate.h"

namespace switchyard {
namespace {

using at::Tensor;
using Inputs = std::vector<Tensor>;

/// `tokens` of them, of which some are not counted.
Tensor some_targets(int64_t tokens, int64_t vocabulary) {
  const Tensor target_T = at::arange(tokens).mul(7).remainder(vocabulary);
  return at::where(at::arange(tokens).remainder(9) == 4, kIgnoredTarget, target_T);
}

OpCase cross_entropy(int64_t T, int64_t V, int64_t D) {
  return {"linear_cross_entropy of " + std::to_string(T) + " tokens",
          [](const Inputs& in) { return linear_cross_entropy(in[0], in[1], in[2]).sum / 8; },
          {coarse_tensor({T, D}, "hidden"), coarse_tensor({V, D}, "head"), some_targets(T, V)}};
}

}  // namespace

std::vector<OpCase> loss_cases() {
  const Tensor logits_TE = coarse_tensor({24, 6}, "logits");
  // The last has more tokens than are taken at once.
  return {
      cross_entropy(0, 5, 4),
      cross_entropy(1, 2, 2),
      cross_entropy(70, 257, 16),
      cross_entropy(16500, 3, 2),
      {"losses of tokens",
       [](const Inputs& in) {
         const auto losses = linear_cross_entropy(in[0], in[1], in[2]);
         return losses.sum * 0 + losses.losses_T;
       },
       {coarse_tensor({30, 4}, "hidden"), coarse_tensor({7, 4}, "head"), some_targets(30, 7)}},
      {"router_z_sum",
       [](const Inputs& in) { return router_z_sum(in[0], in[1]); },
       {logits_TE, at::arange(24) > 3}},
      {"load_balancing_sum",
       [](const Inputs& in) { return load_balancing_sum(in[1], in[0].softmax(1)); },
       {logits_TE, coarse_tensor({2, 6}, "fractions").abs()}},
      {"entropy", [](const Inputs& in) { return entropy(in[0].softmax(1)); }, {logits_TE}},
      {"sparsity_l1", [](const Inputs& in) { return sparsity_l1(in[0].softmax(1)); }, {logits_TE}},
      {"squared_variation",
       [](const Inputs& in) { return squared_variation(in[0].softmax(1)); },
       {logits_TE}},
      {"communication_fractions",
       [](const Inputs& in) {
         const Tensor sent_TN = devices_of_tokens(in[1], 6, 2),
                      tokens_G = at::full({1}, 24, sent_TN.options());
         const Tensor f_GE =
             communication_fractions(sent_TN.sum(0, /*keepdim=*/true), tokens_G, 2, 6);
         return load_balancing_sum(f_GE.to(in[0].dtype()), in[0].softmax(1));
       },
       {logits_TE, at::arange(48).remainder(7).sub(1).view({24, 2})}}};
}

}  // namespace switchyard
