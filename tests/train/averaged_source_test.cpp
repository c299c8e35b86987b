#include "train/averaged_source.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/scratch_folder.h"
#include "train/dense_source.h"

namespace switchyard {
namespace {

using at::Tensor;

const std::string kName = "model.layers.0.self_attn.q_proj.weight";

TEST(AveragedSourceTest, P2_WeightsOfOneAndZeroAreTheFirstModelToTheBit) {
  const ModelSource a = dense_source({.branch = "a"}), b = dense_source({.branch = "b"});
  AveragedSource mean({a.tensors.get(), b.tensors.get()}, {1, 0});
  ASSERT_EQ(mean.tensors().size(), a.tensors->tensors().size());
  for (const TensorInfo& tensor : mean.tensors()) {
    EXPECT_TRUE(at::equal(mean.read(tensor.name), a.tensors->read(tensor.name))) << tensor.name;
  }
  AveragedSource other({a.tensors.get(), b.tensors.get()}, {0, 5});
  EXPECT_TRUE(at::equal(other.read(kName), b.tensors->read(kName)));
}

TEST(AveragedSourceTest, P2_TheMeanOfEqualModelsIsThatModelToTheBit) {
  for (const at::ScalarType stored : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const DenseSettings settings{.stored = stored, .master = false};
    const ModelSource a = dense_source(settings), b = dense_source(settings),
                      c = dense_source(settings);
    AveragedSource mean({a.tensors.get(), b.tensors.get(), c.tensors.get()}, {1, 1, 1});
    for (const TensorInfo& tensor : mean.tensors()) {
      EXPECT_TRUE(at::equal(mean.read(tensor.name), a.tensors->read(tensor.name))) << tensor.name;
    }
  }
}

TEST(AveragedSourceTest, P2_WeightsAreDividedByTheirSum) {
  const ModelSource a = dense_source({.branch = "a"}), b = dense_source({.branch = "b"});
  AveragedSource mean({a.tensors.get(), b.tensors.get()}, {7, 3});
  const Tensor expected =
      a.tensors->read(kName).to(at::kDouble) * 0.7 + b.tensors->read(kName).to(at::kDouble) * 0.3;
  EXPECT_LE((mean.read(kName) - expected).abs().max().item<double>(), 1e-7);
}

TEST(AveragedSourceTest, MastersAreAveragedAndTheWeightsAreTheMasterRounded) {
  const ModelSource a = dense_source({.stored = at::kBFloat16, .branch = "a"}),
                    b = dense_source({.stored = at::kBFloat16, .branch = "b"}),
                    rough = dense_source({.stored = at::kBFloat16, .branch = "c", .master = false});
  AveragedSource mean({a.tensors.get(), b.tensors.get()}, {1, 1});
  const Tensor master = mean.read(kName + ".master");
  EXPECT_TRUE(at::equal(
      master, (a.tensors->read(kName + ".master") + b.tensors->read(kName + ".master")) / 2));
  EXPECT_TRUE(at::equal(mean.read(kName), master.to(at::kBFloat16)));
  AveragedSource without({a.tensors.get(), rough.tensors.get()}, {1, 1});
  EXPECT_FALSE(without.has(kName + ".master"));
  EXPECT_EQ(without.at(kName).dtype, "BF16");
}

TEST(AveragedSourceTest, MomentsAndStateAreLeftOut) {
  const ModelSource a = dense_source({.moments = true});
  dynamic_cast<MapSource&>(*a.tensors).set("router_counts.all", at::zeros({2}), "state");
  AveragedSource mean({a.tensors.get(), a.tensors.get()}, {1, 1});
  EXPECT_FALSE(mean.has(kName + ".exp_avg") || mean.has("router_counts.all"));
  EXPECT_TRUE(mean.has(kName));
}

TEST(AveragedSourceTest, AnotherShapeIsRefused) {
  ModelConfig wide = dense_model();
  wide.intermediate_size = 32;
  const ModelSource a = dense_source(), b = dense_source({.branch = "b"}, wide);
  const std::string message = message_of<DataError>([&] {
    AveragedSource({a.tensors.get(), b.tensors.get()}, {1, 1});
  });
  EXPECT_NE(message.find("denseb: \"model.layers.0.mlp.down_proj.weight\""), std::string::npos)
      << message;
}

}  // namespace
}  // namespace switchyard
