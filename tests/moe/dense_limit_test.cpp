#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "moe/feed_forward.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// Mixtures that are a dense feed-forward network.
//
// T tokens, D model width, E experts of width F.

namespace switchyard {
namespace {

using at::Tensor;

struct Dense {
  ParameterStore store;
  FeedForward network;

  Dense(const ModelConfig& model, int64_t width, const Mesh& mesh)
      : network(store, "dense", model.hidden_size, width, parse_ffn(model.ffn), model.init_std) {
    store.allocate(mesh, {});
  }

  const PlacedPart& named(const std::string& projection) const {
    for (const PlacedPart& placed : store.parts()) {
      if (placed.part.name == "dense." + projection + "_proj.weight") return placed;
    }
    throw std::out_of_range(projection);
  }
};

/// The experts' weights side by side: up and gate by rows, down by columns.
Tensor joined(const std::function<Tensor(int64_t)>& of_expert, int64_t num_experts,
              const std::string& projection) {
  std::vector<Tensor> all;
  for (int64_t e = 0; e < num_experts; ++e) all.push_back(of_expert(e));
  return at::cat(all, projection == "down" ? 1 : 0);
}

std::vector<std::string> projections(const std::string& ffn) {
  if (ffn == "swiglu" || ffn == "geglu") return {"gate", "up", "down"};
  return {"up", "down"};
}

std::string expert_weight(int64_t e, const std::string& projection) {
  return "experts." + std::to_string(e) + "." + projection + "_proj.weight";
}

// sigma-MoE's y = sum_e s_e ReLU(x W1_e) W2_e with all experts and s = 1, from a
// router of zeros, scaled by E: a dense network of width E F, outputs and gradients.
TEST(DenseLimitTest, L4_AllExpertsWithWeightOneAreADenseNetwork) {
  for (const char* ffn : {"relu", "swiglu"}) {
    ModelConfig model = sample_model();
    model.ffn = ffn;
    MoeConfig config = sample_moe_config(8);
    config.router.score = "sigmoid";
    config.router.normalize = false;
    config.router.scaling_factor = 2;  // sigmoid(0) = 1/2
    const Mesh mesh = solo_mesh();
    SampleMoe moe(model, config, mesh);
    moe.weight("gate.weight").zero_();
    Dense dense(model, 8 * config.expert_intermediate_size, mesh);
    for (const std::string& projection : projections(ffn)) {
      dense.store.weight_of(dense.named(projection))
          .copy_(joined([&](int64_t e) { return moe.weight(expert_weight(e, projection)); }, 8,
                        projection));
    }
    const Tensor x_TD = normal_tensor({24, 6}, "hidden states", at::kFloat);
    const Tensor weight_TD = normal_tensor({24, 6}, "weight of the outputs", at::kFloat);
    moe.store.zero_gradients();
    const MoeOutput output = moe.layer.forward(x_TD, context_of(1, 24));
    EXPECT_TRUE(same(output.record.weights_TK.detach(), at::ones({24, 8})));
    const Tensor y_TD = dense.network.forward(x_TD);
    EXPECT_TRUE(near(output.y_TD.detach(), y_TD.detach(), 1e-5)) << ffn;
    torch::autograd::backward({output.y_TD}, {weight_TD});
    torch::autograd::backward({y_TD}, {weight_TD});
    for (const std::string& projection : projections(ffn)) {
      EXPECT_TRUE(near(joined([&](int64_t e) { return moe.gradient(expert_weight(e, projection)); },
                              8, projection),
                       dense.store.gradient_of(dense.named(projection)), 1e-5))
          << projection;
    }
  }
}

// DeepSeekMoE's shared experts alone (the routed ones give zero) are one dense network of
// width num * intermediate_size.
TEST(DenseLimitTest, L7_SharedExpertsAloneAreADenseNetwork) {
  const ModelConfig model = sample_model();
  MoeConfig config = sample_moe_config(2);
  config.shared_experts = {3, 5, false};
  const Mesh mesh = solo_mesh();
  SampleMoe moe(model, config, mesh);
  for (int64_t e = 0; e < 8; ++e) moe.weight(expert_weight(e, "down")).zero_();
  Dense dense(model, 15, mesh);
  for (const std::string& projection : projections(model.ffn)) {
    dense.store.weight_of(dense.named(projection))
        .copy_(moe.weight("shared_expert." + projection + "_proj.weight"));
  }
  const Tensor x_TD = normal_tensor({24, 6}, "hidden states", at::kFloat);
  const Tensor y_TD = moe.layer.forward(x_TD, context_of(1, 24)).y_TD.detach();
  EXPECT_TRUE(near(y_TD, dense.network.forward(x_TD).detach(), 1e-6));
  EXPECT_GT(y_TD.abs().max().item<float>(), 0.1);
}

}  // namespace
}  // namespace switchyard
