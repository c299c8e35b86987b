#include "train/session.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "config/load_config.h"

namespace switchyard {
namespace {

RunConfig small_config() {
  RunConfig config;
  config.data.path = {{"unused", 1.0, ""}};
  config.model.vocab_size = 64;
  config.model.hidden_size = 16;
  config.model.num_hidden_layers = 2;
  config.model.num_attention_heads = 2;
  config.moe.num_experts = 4;
  config.moe.expert_intermediate_size = 24;
  config.train.precision = "fp32";
  resolve_autos(config.model);
  return config;
}

class SessionTest : public testing::Test {
 protected:
  SessionTest() : runtime_(argc_, argv_) {}

 private:
  int argc_ = 0;
  char** argv_ = nullptr;

 protected:
  Runtime runtime_;
};

TEST_F(SessionTest, BytesAreThoseOfTheFormulaInBothPrecisions) {
  RunConfig config = small_config();
  for (const auto& [precision, w, k] : {std::tuple{"fp32", 4, 8}, std::tuple{"bf16", 2, 12}}) {
    config.train.precision = precision;
    Session session(runtime_, config);
    const int64_t n = session.size().total_parameters();
    EXPECT_EQ(session.store().bytes().weights, w * n) << precision;
    EXPECT_EQ(session.store().bytes().gradients, 4 * n) << precision;
    EXPECT_EQ(session.store().bytes().optimizer, k * n) << precision;
  }
}

TEST_F(SessionTest, InferenceHoldsWeightsAlone) {
  RunConfig config = small_config();
  for (const int64_t stage : {0, 1, 2}) {
    config.zero.stage = stage;
    Session session(runtime_, config, Purpose::kInference);
    EXPECT_EQ(session.store().bytes().weights, 4 * session.size().total_parameters());
    EXPECT_EQ(session.store().bytes().gradients + session.store().bytes().optimizer, 0);
    DecoderInput input;
    input.tokens_BS = at::zeros({1, 3}, at::kLong);
    input.mode = Mode::kEval;
    EXPECT_FALSE(session.decoder().forward(input).hidden_TD.requires_grad());
  }
}

TEST_F(SessionTest, PatternsScaleLearningRatesAndFreeze) {
  RunConfig config = small_config();
  config.optim.lr_scale = {{"*.mlp.gate.*", 0.1}, {"model.layers.1.*", 0.5}};
  config.train.freeze = {"model.embed_tokens.*"};
  Session session(runtime_, config);
  for (const PlacedPart& placed : session.store().parts()) {
    const std::string& name = placed.part.name;
    EXPECT_EQ(placed.rule.frozen, name == "model.embed_tokens.weight") << name;
    const bool gate = name.find(".mlp.gate.") != std::string::npos,
               second = name.starts_with("model.layers.1.");
    EXPECT_DOUBLE_EQ(placed.rule.lr_scale, (gate ? 0.1 : 1.0) * (second ? 0.5 : 1.0)) << name;
    EXPECT_EQ(placed.rule.decay, placed.part.shape.size() >= 2) << name;
  }
}

TEST(ResolveVocabularyTest, PadsToAMultipleOf64AndRefusesLessThanTheData) {
  ModelConfig model;
  resolve_vocabulary(model, 257);
  EXPECT_EQ(model.vocab_size, 320);
  resolve_vocabulary(model, 300);
  EXPECT_EQ(model.vocab_size, 320);
  EXPECT_THROW(resolve_vocabulary(model, 321), ConfigError);
}

}  // namespace
}  // namespace switchyard
