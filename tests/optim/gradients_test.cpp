#include "optim/gradients.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "optim/sample_model.h"

namespace switchyard {
namespace {

TEST(GradientNormsTest, EachKindByHand) {
  const Mesh mesh = solo_mesh();
  SampleModel model(mesh, {});
  model.embedding.mutable_grad()[0][0] = 3;
  model.qkv.mutable_grad()[7][2] = -4;
  model.down.mutable_grad()[3][2][4] = 12;
  reduce_gradients(model.store);
  const GradientNorms norms = gradient_norms(model.store, *mesh.world);
  EXPECT_DOUBLE_EQ(norms.dense, 5);
  EXPECT_DOUBLE_EQ(norms.expert, 12);
  EXPECT_DOUBLE_EQ(norms.total, 13);
}

TEST(GradientNormsTest, SquaresAreSummedInFloat64) {
  // A float32 sum of 2^24 and a hundred thousand ones would stay at 2^24.
  const Mesh mesh = solo_mesh();
  ParameterStore store;
  at::Tensor leaf = store.add(ParameterKind::kDense, {"weight", {100'001}, {}});
  store.allocate(mesh, {});
  leaf.mutable_grad().fill_(1);
  leaf.mutable_grad()[0] = 4096;
  EXPECT_DOUBLE_EQ(gradient_norms(store, *mesh.world).total, std::sqrt(16'777'216.0 + 100'000));
}

TEST(GradientNormsTest, LargeGradientsDoNotOverflow) {
  const Mesh mesh = solo_mesh();
  SampleModel model(mesh, {});
  model.norm.mutable_grad().fill_(1e30F);
  EXPECT_NEAR(gradient_norms(model.store, *mesh.world).total / 1e30, std::sqrt(3.0), 1e-6);
}

TEST(GradientNormsTest, OneNumberThatIsNotFiniteIsSeen) {
  const Mesh mesh = solo_mesh();
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    SampleModel model(mesh, {});
    model.gate_up.mutable_grad()[1][0][0] = bad;
    const GradientNorms norms = gradient_norms(model.store, *mesh.world);
    EXPECT_FALSE(std::isfinite(norms.total)) << bad;
    EXPECT_FALSE(std::isfinite(norms.expert)) << bad;
    EXPECT_EQ(norms.dense, 0) << bad;
  }
}

// k lies in one leaf with q and v, which train: backward fills its gradient too.
TEST(GradientNormsTest, AFrozenPartOfALeafThatTrainsDoesNotCount) {
  const Mesh mesh = solo_mesh();
  ParameterStore::Options options;
  options.rule = [](const NamedPart& part) {
    return UpdateRule{.frozen = part.name == "model.layers.0.k_proj.weight"};
  };
  SampleModel model(mesh, options);
  model.qkv.sum().backward();
  reduce_gradients(model.store);
  EXPECT_DOUBLE_EQ(gradient_norms(model.store, *mesh.world).total, std::sqrt(6 * 3));
}

TEST(ClipCoefficientTest, AsTorchDoes) {
  EXPECT_DOUBLE_EQ(clip_coefficient(4, 1), 1 / (4 + 1e-6));
  EXPECT_DOUBLE_EQ(clip_coefficient(0.5, 1), 1);
  EXPECT_DOUBLE_EQ(clip_coefficient(0, 1), 1);
  EXPECT_DOUBLE_EQ(clip_coefficient(1, 1), 1 / (1 + 1e-6));
  EXPECT_DOUBLE_EQ(clip_coefficient(1e9, 0), 1);
}

}  // namespace
}  // namespace switchyard
