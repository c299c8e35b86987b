#include "model/model_tensors.h"

#include <gtest/gtest.h>

#include <set>

#include "model/sample_decoder.h"

namespace switchyard {
namespace {

TEST(ModelTensors, AreThoseOfADecoder) {
  MoeConfig moe = small_moe();
  moe.layers = "1";
  moe.router.selection_bias = true;
  moe.shared_experts = {1, 5, true};
  const Mesh mesh = solo_mesh();
  const SampleDecoder sample(small_model(), moe, mesh);
  std::set<std::string> names;
  int64_t elements = 0;
  for (const ModelTensor& tensor : model_tensors(small_model(), moe)) {
    EXPECT_TRUE(names.insert(tensor.name).second);
    if (tensor.kind != "state") elements += c10::multiply_integers(tensor.shape);
  }
  EXPECT_EQ(elements, sample.store.local_elements(ParameterKind::kDense) +
                          sample.store.local_elements(ParameterKind::kExpert));
  for (const PlacedPart& placed : sample.store.parts()) {
    EXPECT_TRUE(names.contains(placed.part.name)) << placed.part.name;
  }
  EXPECT_EQ(names.size(), sample.store.parts().size() + 1);
}

TEST(ModelTensors, AreSortedWithTheirKinds) {
  MoeConfig moe = small_moe();
  moe.router.selection_bias = true;
  const std::vector<ModelTensor> tensors = model_tensors(small_model(), moe);
  EXPECT_TRUE(std::ranges::is_sorted(tensors, {}, &ModelTensor::name));
  std::map<std::string, std::string> kinds;
  for (const ModelTensor& tensor : tensors) kinds[tensor.name] = tensor.kind;
  EXPECT_EQ(kinds["model.norm.weight"], "dense");
  EXPECT_EQ(kinds["model.layers.0.mlp.gate.weight"], "dense");
  EXPECT_EQ(kinds["model.layers.1.mlp.experts.7.down_proj.weight"], "expert");
  EXPECT_EQ(kinds["model.layers.1.mlp.gate.e_score_correction_bias"], "state");
}

}  // namespace
}  // namespace switchyard
