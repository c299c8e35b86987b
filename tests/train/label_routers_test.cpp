// Steps of training with the routers that decide by labels or by sampling.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <map>

#include "base/error.h"
#include "config/load_config.h"
#include "train/evaluator.h"
#include "train/generator.h"
#include "train/train_step.h"

// B sequences of S tokens.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kSequences = 4, kLength = 8, kVocabulary = 64;

RunConfig config_of(const std::string& router) {
  RunConfig config;
  config.data.path = {{"a", 1.0, ""}, {"b", 1.0, ""}, {"c", 1.0, ""}};
  config.data.sequence_length = kLength;
  config.model.vocab_size = kVocabulary;
  config.model.hidden_size = 16;
  config.model.num_hidden_layers = 2;
  config.model.num_attention_heads = 2;
  config.model.init_std = 0.2;
  config.moe.num_experts = 4;
  config.moe.top_k = 1;
  config.moe.expert_intermediate_size = 24;
  config.moe.router.type = router;
  config.moe.balance = {};
  config.moe.z_loss.coef = 0;
  config.optim.weight_decay = 0;
  config.optim.schedule.warmup_steps = 0;
  config.train.precision = "fp32";
  config.train.global_batch_size = config.train.micro_batch_size = kSequences;
  resolve_autos(config.model);
  return config;
}

/// A batch of one domain.
std::vector<MicroBatch> batch_of(int64_t domain, int64_t step = 0) {
  const Tensor tokens = (at::arange(kSequences * (kLength + 1), at::kLong).square() * (7 + step))
                            .remainder(kVocabulary)
                            .view({kSequences, kLength + 1});
  MicroBatch batch;
  batch.input.tokens_BS = tokens.narrow(1, 0, kLength).contiguous();
  batch.input.domains_B = at::full({kSequences}, domain, at::kLong);
  batch.targets_T = tokens.narrow(1, 1, kLength).reshape({-1});
  return {batch};
}

class LabelRoutersTrainingTest : public testing::Test {
 protected:
  LabelRoutersTrainingTest() : runtime_(argc_, argv_) {}

 private:
  int argc_ = 0;
  char** argv_ = nullptr;

 protected:
  Runtime runtime_;
};

using Weights = std::map<std::string, Tensor>;

Weights weights_of(Session& session) {
  Weights weights;
  for (const PlacedPart& placed : session.store().parts()) {
    weights[placed.part.name] = session.store().weight_of(placed).detach().clone();
  }
  return weights;
}

TEST_F(LabelRoutersTrainingTest, P1_TrainingADomainLeavesTheOtherExpertsBitUnchanged) {
  Session session(runtime_, config_of("domain"));
  const Weights before = weights_of(session);
  for (int64_t step = 0; step < 4; ++step) train_step(session, batch_of(/*domain=*/2, step));
  for (const auto& [name, weight] : weights_of(session)) {
    const bool other = name.find(".experts.") != std::string::npos &&
                       name.find(".experts.2.") == std::string::npos;
    EXPECT_EQ(at::equal(weight, before.at(name)), other) << name;
  }
}

TEST_F(LabelRoutersTrainingTest, P1_MoreSourcesThanExpertsMakeNoSession) {
  RunConfig config = config_of("domain");
  config.moe.num_experts = 2;
  EXPECT_THROW(Session(runtime_, config), ConfigError);
}

TEST_F(LabelRoutersTrainingTest, P1_EvaluationAndGenerationNeedADomain) {
  Session session(runtime_, config_of("domain"), Purpose::kInference);
  EXPECT_THROW(evaluate(session, "nowhere", "val", kLength, 0), ConfigError);
  SamplingOptions options;
  options.max_new_tokens = 3;
  options.temperature = 0;
  const auto generated = [&] {
    return generate(session, {1, 2, 3}, options, kVocabulary, /*ends=*/{}, [](int64_t) {});
  };
  EXPECT_THROW(generated(), ConfigError);
  options.domain = 2;
  const std::vector<int64_t> second = generated();
  EXPECT_EQ(second.size(), 3U);
  EXPECT_EQ(generated(), second);
}

TEST_F(LabelRoutersTrainingTest, R4_TheTableDoesNotMoveAndNoRouterWeightIsThere) {
  RunConfig config = config_of("hash");
  Session session(runtime_, config);
  Tensor counts_V = at::arange(kVocabulary, at::kLong);
  session.decoder().use_token_counts(counts_V);  // random: no use of them
  std::vector<Tensor> tables;
  for (const auto& [name, table] : session.decoder().router_state())
    tables.push_back(table.clone());
  ASSERT_EQ(tables.size(), 2U);
  EXPECT_FALSE(at::equal(tables[0], tables[1]));
  const StepReport report = train_step(session, batch_of(0));
  EXPECT_TRUE(report.finite);
  const NamedState after = session.decoder().router_state();
  for (size_t l = 0; l < 2; ++l) EXPECT_TRUE(at::equal(after[l].second, tables[l]));
  for (const auto& [name, weight] : weights_of(session)) {
    EXPECT_EQ(name.find("gate.weight"), std::string::npos) << name;
  }
}

TEST_F(LabelRoutersTrainingTest, R6_TheBaselineFollowsTheLossOfEveryStep) {
  RunConfig config = config_of("reinforce");
  config.moe.router.reinforce.baseline_decay = 0.75;
  Session session(runtime_, config);
  float expected = std::log(static_cast<float>(kVocabulary));
  for (int64_t step = 0; step < 3; ++step) {
    const StepReport report = train_step(session, batch_of(0, step));
    expected = 0.75F * expected + 0.25F * static_cast<float>(report.loss);
    for (const auto& [name, baseline] : session.decoder().router_state()) {
      EXPECT_NEAR(baseline.item<float>(), expected, 1e-6) << name;
    }
  }
}

/// The gradient at each layer's gate.
Weights gate_gradients(Session& session) {
  Weights gradients;
  for (const PlacedPart& placed : session.store().parts()) {
    if (!placed.part.name.ends_with("mlp.gate.weight")) continue;
    gradients[placed.part.name] = session.store().gradient_of(placed).clone();
  }
  return gradients;
}

TEST_F(LabelRoutersTrainingTest, R6_ThePolicyGradientAloneTrainsTheLastRouter) {
  RunConfig config = config_of("reinforce");
  config.moe.router.reinforce.coef = 0;
  {
    Session session(runtime_, config);
    compute_gradients(session, batch_of(0));
    for (const auto& [name, gradient] : gate_gradients(session)) {
      EXPECT_EQ(gradient.abs().max().item<float>(), 0) << name;
    }
  }
  config.moe.router.reinforce.coef = 0.5;
  Session session(runtime_, config);
  const auto batches = batch_of(0);
  compute_gradients(session, batches);
  const Tensor actual_ED = gate_gradients(session).at("model.layers.1.mlp.gate.weight");

  // -(b - loss_t) (onehot(e_t) - p_t) x_t, with x_t from the logits: the objective written out.
  session.store().zero_gradients();
  const DecoderOutput output = session.decoder().forward(batches[0].input);
  const Tensor logits_TV = session.decoder().logits(output.hidden_TD).detach();
  const Tensor target_T = logits_TV.gather(1, batches[0].targets_T.unsqueeze(1)).squeeze(1);
  const Tensor loss_T = logits_TV.logsumexp(/*dim=*/{1}) - target_T;
  const RouterRecord& last = output.routers[1];
  const Tensor chosen_TE = at::one_hot(last.experts_TK.squeeze(1), 4);
  const Tensor slope_TE = -(std::log(64.0) - loss_T).unsqueeze(1) *
                          (chosen_TE - last.probs_TE.detach()) * 0.5 / (2.0 * kSequences * kLength);
  torch::autograd::backward({last.logits_TE}, {slope_TE});
  const Tensor expected_ED = gate_gradients(session).at("model.layers.1.mlp.gate.weight");
  EXPECT_GT(expected_ED.abs().max().item<float>(), 1e-4);
  EXPECT_LT((actual_ED - expected_ED).abs().max().item<float>(), 1e-6);
}

}  // namespace
}  // namespace switchyard
