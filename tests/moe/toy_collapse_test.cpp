#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "moe/router_losses.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// A mixture of eight experts learns one smooth function of fixed tokens. Nothing in the
// task calls for more than one expert, and the tokens have a common part: the expert
// that is ahead gets more tokens and gets further ahead. Without a balance loss one
// expert ends with nearly all tokens; every mechanism must hold the load together.
//
// T tokens, D model width, E experts. Seeds: sample_moe.h's (5 for the weights, 7 for
// the draws), and the names of the tensors below.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kTokens = 128, kSteps = 150, kWidth = 6;  // as sample_model

/// Adam (Kingma and Ba, 2014), written out.
class Adam {
 public:
  explicit Adam(SampleMoe& moe, double lr) : moe_(moe), lr_(lr) {
    for (const PlacedPart& placed : moe.store.parts()) {
      const Tensor weight = moe.store.weight_of(placed);
      mean_.push_back(at::zeros_like(weight));
      square_.push_back(at::zeros_like(weight));
    }
  }

  void update() {
    ++steps_;
    for (size_t i = 0; i < mean_.size(); ++i) {
      const PlacedPart& placed = moe_.store.parts()[i];
      const Tensor gradient = moe_.store.gradient_of(placed);
      mean_[i].mul_(0.9).add_(gradient, 0.1);
      square_[i].mul_(0.95).addcmul_(gradient, gradient, 0.05);
      const Tensor mean = mean_[i] / (1 - std::pow(0.9, steps_));
      const Tensor root = (square_[i] / (1 - std::pow(0.95, steps_))).sqrt() + 1e-8;
      Tensor weight = moe_.store.weight_of(placed).detach();
      weight.addcdiv_(mean, root, -lr_);
    }
  }

 private:
  SampleMoe& moe_;
  double lr_;
  int64_t steps_ = 0;
  std::vector<Tensor> mean_, square_;
};

/// What is added to the task's loss, from the layer's record.
using ExtraLoss = std::function<Tensor(const MoeConfig&, const RouterRecord&)>;

Tensor no_loss(const MoeConfig& /*moe*/, const RouterRecord& /*record*/) { return at::zeros({}); }

/// The entries of moe.balance, as in training.
Tensor balance_losses(const MoeConfig& moe, const RouterRecord& record) {
  return router_losses({record}, moe, {}, static_cast<double>(kTokens)).objective;
}

/// Var / Mean^2 of the sums over tokens.
Tensor cv_squared(const Tensor& x_TE) {
  const Tensor sum_E = x_TE.sum(0);
  return sum_E.var(0, /*unbiased=*/false) / sum_E.mean().square();
}

/// Importance and load losses (arXiv:1701.06538 eqs. 6-7, 11), each of weight 0.1.
Tensor importance_and_load(const MoeConfig& /*moe*/, const RouterRecord& record) {
  return 0.1 * cv_squared(record.importance_TE) + 0.1 * cv_squared(record.load_TE);
}

MoeConfig toy_config(const std::string& router, int64_t num_experts, int64_t top_k) {
  MoeConfig moe;
  moe.num_experts = num_experts;
  moe.top_k = top_k;
  moe.expert_intermediate_size = 8;
  moe.router.type = router;
  moe.balance.clear();
  moe.z_loss.coef = 0;
  return moe;
}

/// One router that collapses when left alone, and what balances it.
struct Mechanism {
  const char* name;
  MoeConfig alone, balanced;
  ExtraLoss loss = no_loss;  // of the balanced one
  double bound = 1.0;        // of its MaxVio
};

struct Outcome {
  double max_violation = 0, first_loss = 0, last_loss = 0;
};

struct Task {
  Tensor x_TD, target_TD;
};

Task toy_task() {
  const Tensor x_TD = normal_tensor({kTokens, kWidth}, "toy tokens", at::kFloat) +
                      normal_tensor({kWidth}, "toy common part", at::kFloat);
  const Tensor map_DD = normal_tensor({kWidth, kWidth}, "toy map", at::kFloat);
  return {x_TD, at::matmul(x_TD, map_DD).tanh()};
}

/// MaxVio = (max count - mean count) / mean count over the last tenth of the steps.
Outcome train(SampleMoe& moe, const MoeConfig& config, const ExtraLoss& extra) {
  const auto [x_TD, target_TD] = toy_task();
  Adam adam(moe, 0.01);
  Outcome outcome;
  Tensor counts_E = at::zeros({config.num_experts}, at::kDouble);
  for (int64_t step = 0; step < kSteps; ++step) {
    moe.store.zero_gradients();
    const MoeOutput output = moe.layer.forward(x_TD, context_of(1, kTokens, step));
    const Tensor loss = (output.y_TD - target_TD).square().mean();
    (loss + extra(config, output.record)).backward();
    adam.update();
    const Tensor step_E = output.record.counts.all_GE[0];
    moe.layer.update_state({step_E, static_cast<double>(kTokens), 0.0, loss.item<double>()});
    if (step == 0) outcome.first_loss = loss.item<double>();
    outcome.last_loss = loss.item<double>();
    if (step >= kSteps - kSteps / 10) counts_E += step_E;
  }
  outcome.max_violation = (counts_E.max() / counts_E.mean() - 1).item<double>();
  return outcome;
}

Outcome train(const MoeConfig& config, const ExtraLoss& extra) {
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), config, mesh);
  return train(moe, config, extra);
}

std::vector<Mechanism> mechanisms() {
  std::vector<Mechanism> all;
  const auto add = [&](const char* name, const MoeConfig& alone) -> Mechanism& {
    return all.emplace_back(Mechanism{name, alone, alone});
  };
  const auto with_balance = [](Mechanism& mechanism, const char* type, double coef) {
    mechanism.balanced.balance = {BalanceConfig{}};
    mechanism.balanced.balance[0].type = type;
    mechanism.balanced.balance[0].coef = coef;
    mechanism.loss = balance_losses;
  };
  with_balance(add("C3 switch, its loss", toy_config("switch", 8, 1)), "switch", 0.1);
  // Two choices of eight cannot be more than 3 over the mean: sixteen experts.
  MoeConfig gshard = toy_config("gshard", 16, 2);
  gshard.router.second_expert_policy = "all";
  with_balance(add("C2 gshard, its loss", gshard), "gshard", 0.1);
  with_balance(add("L7 topk, its loss", toy_config("topk", 16, 2)), "topk", 0.1);
  add("C1 noisy_topk, importance and load", toy_config("noisy_topk", 16, 2)).loss =
      importance_and_load;
  MoeConfig vmoe = toy_config("topk", 8, 1);
  vmoe.router.normalize = false;
  Mechanism& noisy = add("R1 topk with noise, importance and load", vmoe);
  noisy.balanced.router.noise_std = 1.0 / 8;
  noisy.loss = importance_and_load;
  MoeConfig sigmoid = toy_config("topk", 8, 1);
  sigmoid.router.score = "sigmoid";
  sigmoid.router.normalize = false;
  Mechanism& bias = add("R12 topk, selection bias", sigmoid);
  bias.balanced.router.selection_bias = true;
  bias.balanced.router.bias_update_rate = 0.01;
  bias.bound = 0.2;
  with_balance(add("L4 sigmoid, entropy", sigmoid), "entropy", 1);
  with_balance(add("L7 topk, per sequence", toy_config("topk", 16, 2)), "sequence", 0.1);
  with_balance(add("R8 topk, expert", toy_config("topk", 16, 2)), "expert", 0.1);
  with_balance(add("D1 switch, mean importance", toy_config("switch", 8, 1)), "mean_importance", 1);
  with_balance(add("D2 switch, global entropy", toy_config("switch", 8, 1)), "global_entropy", 1);
  with_balance(add("P6 switch, mutual information", toy_config("switch", 8, 1)),
               "mutual_information", 1);
  const MoeConfig one = toy_config("topk", 8, 1), two = toy_config("topk", 16, 2);
  add("R2 expert_choice instead", two).balanced.router.type = "expert_choice";
  add("R3 base instead", one).balanced.router.type = "base";
  add("R6 sinkhorn instead", one).balanced.router.type = "sinkhorn";
  add("R7 sparse_ot instead", two).balanced.router.type = "sparse_ot";
  return all;
}

TEST(ToyCollapseTest, EveryMechanismKeepsTheLoadTogether) {
  for (const Mechanism& mechanism : mechanisms()) {
    const Outcome alone = train(mechanism.alone, no_loss);
    const Outcome balanced = train(mechanism.balanced, mechanism.loss);
    RecordProperty(mechanism.name, std::to_string(alone.max_violation) + " -> " +
                                       std::to_string(balanced.max_violation));
    EXPECT_GT(alone.max_violation, 3) << mechanism.name;
    EXPECT_LT(balanced.max_violation, mechanism.bound) << mechanism.name;
    EXPECT_LT(balanced.last_loss, 0.5 * balanced.first_loss) << mechanism.name;
  }
}

// V-MoE figure 4: with slots for half of the tokens, batch priority loses less than
// serving tokens in their order.
TEST(ToyCollapseTest, R1_WithHalfTheSlotsBatchPriorityLosesLess) {
  MoeConfig config = toy_config("topk", 8, 2);
  config.router.normalize = false;
  config.router.noise_std = 1.0 / 8;
  const Mesh mesh = solo_mesh();
  SampleMoe trained(sample_model(), config, mesh);
  train(trained, config, importance_and_load);
  const auto loss = [&](std::optional<double> factor, const char* priority) {
    config.capacity.eval_factor = factor;
    config.capacity.priority = priority;
    SampleMoe moe(sample_model(), config, mesh);
    for (const PlacedPart& placed : trained.store.parts()) {
      moe.store.weight_of(placed).copy_(trained.store.weight_of(placed));
    }
    TokenContext context = context_of(1, kTokens);
    context.mode = Mode::kEval;
    const auto [x_TD, target_TD] = toy_task();
    return (moe.layer.forward(x_TD, context).y_TD - target_TD).square().mean().item<double>();
  };
  const double all = loss(std::nullopt, "position");
  for (const char* priority : {"probability", "probability_sum"}) {
    EXPECT_LT(loss(0.5, priority), loss(0.5, "position")) << priority;
    EXPECT_GT(loss(0.5, priority), all);
    EXPECT_EQ(loss(8.0, priority), all);
  }
}

}  // namespace
}  // namespace switchyard
