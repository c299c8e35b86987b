#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "model/model_size.h"
#include "model/model_tensors.h"
#include "model/sample_decoder.h"
#include "support/tensors.h"

// The recurrent router in a whole model: its state over depth, its GRU in the registry.

namespace switchyard {
namespace {

using at::Tensor;

ModelConfig three_layers() {
  ModelConfig model = small_model();
  model.num_hidden_layers = 3;
  return model;
}

MoeConfig recurrent_moe() {
  MoeConfig moe = small_moe();
  moe.router.type = "recurrent";
  moe.router.recurrent.hidden_size = 5;
  return moe;
}

double gradient_size(const SampleDecoder& sample, const std::string& name) {
  return sample.store.gradient_of(sample.parts().at(name)).abs().max().item<double>();
}

/// Largest gradients of the first layer's `names` from the last layer's logits alone, with
/// experts whose output is zero: layers then hear of each other through the state only.
std::vector<double> gradients_from_the_last_layer(MoeConfig moe,
                                                  const std::vector<std::string>& names) {
  moe.expert_init = "zero_output";
  const Mesh mesh = solo_mesh();
  SampleDecoder sample(three_layers(), moe, mesh);
  const DecoderOutput output = sample.decoder.forward(input_of(sample_tokens(2, 6), Mode::kTrain));
  output.routers.back().logits_TE.square().sum().backward();
  std::vector<double> sizes;
  for (const std::string& name : names) {
    sizes.push_back(gradient_size(sample, "model.layers.0.mlp." + name));
  }
  return sizes;
}

TEST(RecurrentRouterDepthTest, R11_TheLastLayersLossReachesTheFirstLayersInput) {
  const auto sizes =
      gradients_from_the_last_layer(recurrent_moe(), {"gate.input.weight", "gate.weight"});
  EXPECT_GT(sizes[0], 1e-4);
  EXPECT_EQ(sizes[1], 0);  // W2 of the first layer gives logits that only it reads
  EXPECT_EQ(gradients_from_the_last_layer(small_moe(), {"gate.weight"})[0], 0);
}

TEST(RecurrentRouterDepthTest, R11_ADenseLayerBetweenPassesTheStateOn) {
  MoeConfig moe = recurrent_moe();
  moe.layers = "0,2";
  EXPECT_GT(gradients_from_the_last_layer(moe, {"gate.input.weight"})[0], 1e-4);
}

TEST(RecurrentRouterDepthTest, R11_TheGruIsOneParameterOfAllLayers) {
  ModelConfig model = three_layers();
  resolve_autos(model);
  const Mesh mesh = solo_mesh();
  const SampleDecoder sample(model, recurrent_moe(), mesh);
  std::map<std::string, std::vector<int64_t>> shared;
  for (const PlacedPart& placed : sample.store.parts()) {
    if (!placed.part.name.starts_with("model.router.")) continue;
    EXPECT_EQ(placed.kind, ParameterKind::kDense);
    EXPECT_TRUE(shared.emplace(placed.part.name, placed.part.shape).second) << "a name twice";
  }
  const std::map<std::string, std::vector<int64_t>> expected = {
      {"model.router.gru.weight_ih", {15, 5}},
      {"model.router.gru.weight_hh", {15, 5}},
      {"model.router.gru.bias_ih", {15}},
      {"model.router.gru.bias_hh", {15}}};
  EXPECT_EQ(shared, expected);

  int64_t listed = 0;
  for (const ModelTensor& tensor : model_tensors(model, recurrent_moe())) {
    listed += static_cast<int64_t>(tensor.name.starts_with("model.router."));
  }
  EXPECT_EQ(listed, 4);

  // Against a plain router: W1 and W2 in place of the gate in each layer, the GRU once in the
  // parameters and at every layer in the work.
  const ModelSize with = model_size(model, recurrent_moe(), 16),
                  plain = model_size(model, small_moe(), 16);
  EXPECT_EQ(with.dense_parameters - plain.dense_parameters,
            3 * (5 * 8 + 8 * 5 - 8 * 8) + 2 * 15 * 5 + 2 * 15);
  EXPECT_EQ(with.flops_per_token - plain.flops_per_token,
            6 * 3 * (5 * 8 + 8 * 5 - 8 * 8 + 2 * 15 * 5));
}

TEST(RecurrentRouterDepthTest, R11_LogitsWithACacheAreThoseOfTheFullForward) {
  const Mesh mesh = solo_mesh();
  const SampleDecoder sample(three_layers(), recurrent_moe(), mesh);
  const Tensor tokens_BS = sample_tokens(2, 8);
  KvCache cache;
  std::vector<Tensor> pieces = {sample.logits(input_of(tokens_BS.narrow(1, 0, 5)), &cache)};
  for (int64_t s = 5; s < 8; ++s) {
    pieces.push_back(sample.logits(input_of(tokens_BS.narrow(1, s, 1)), &cache));
  }
  EXPECT_TRUE(near(at::cat(pieces, 1), sample.logits(input_of(tokens_BS)), 1e-5));
}

}  // namespace
}  // namespace switchyard
