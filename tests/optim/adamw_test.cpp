#include "optim/adamw.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "optim/sample_model.h"

namespace switchyard {
namespace {

using at::Tensor;
using nlohmann::json;

/// Two steps by hand: the first moves every weight by lr, whatever its gradient.
TEST(AdamWTest, FirstStepsByHand) {
  const Mesh mesh = solo_mesh();
  ParameterStore store;
  store.add(ParameterKind::kDense, {"weight", {1, 2}, {Init::Type::kOnes, 0}});
  store.allocate(mesh, {});
  ParameterStore::Buffer& buffer = store.buffer(ParameterKind::kDense);
  const AdamW adamw{.beta1 = 0.5, .beta2 = 0.75, .eps = 0, .weight_decay = 0.5};
  buffer.gradients.copy_(at::tensor(std::vector<float>{4, -0.001F}));
  adamw.update(store, /*step=*/1, /*lr=*/0.25, /*gradient_scale=*/1);
  // 1 * (1 - 0.25 * 0.5) -+ 0.25
  EXPECT_TRUE(near(buffer.weights, at::tensor(std::vector<float>{0.625F, 1.125F}), 1e-6));
  EXPECT_EQ(buffer.exp_avg[0].item<float>(), 2);
  EXPECT_EQ(buffer.exp_avg_sq[0].item<float>(), 4);
  // Gradient 8 scaled by a half is 4 again: m / (1 - 0.5^2) = 3 / 0.75 = 4, v likewise 16.
  buffer.gradients.fill_(8);
  adamw.update(store, /*step=*/2, /*lr=*/0.25, /*gradient_scale=*/0.5);
  EXPECT_FLOAT_EQ(buffer.weights[0].item<float>(), 0.625F * 0.875F - 0.25F);
  EXPECT_FLOAT_EQ(buffer.exp_avg[0].item<float>(), 3);
  EXPECT_FLOAT_EQ(buffer.exp_avg_sq[0].item<float>(), 7);
}

class AdamWGoldenTest : public testing::Test {
 protected:
  AdamWGoldenTest()
      : mesh_(solo_mesh()),
        golden_(read_json_file(SWITCHYARD_SOURCE_DIR "/tests/golden/adamw.json")) {
    for (const json& part : golden_["parts"]) {
      store_.add(ParameterKind::kDense, {part["name"], part["shape"], {}});
    }
    ParameterStore::Options options;
    options.rule = [this](const NamedPart& named) {
      for (const json& part : golden_["parts"]) {
        if (part["name"] == named.name) return UpdateRule{part["lr_scale"], part["decay"], false};
      }
      throw std::out_of_range(named.name);
    };
    store_.allocate(mesh_, options);
    buffer().weights.copy_(flat(golden_["start"]));
  }

  ParameterStore::Buffer& buffer() { return store_.buffer(ParameterKind::kDense); }

  /// The parts' values behind one another, as the buffer has them.
  static Tensor flat(const json& values_of_parts) {
    std::vector<float> all;
    for (const json& values : values_of_parts) {
      for (const json& value : values) all.push_back(value);
    }
    return at::tensor(all);
  }

  /// Each element within 1e-6 of `size`.
  static testing::AssertionResult near_golden(const Tensor& actual, const json& expected,
                                              const Tensor& size) {
    return near(actual / size, flat(expected) / size, 1e-6);
  }

  const Mesh mesh_;
  const json golden_;
  ParameterStore store_;
};

TEST_F(AdamWGoldenTest, TenStepsOfTorch) {
  const AdamW adamw{golden_["beta1"], golden_["beta2"], golden_["eps"], golden_["weight_decay"]};
  ASSERT_EQ(golden_["steps"].size(), 10U);
  int64_t step = 0;
  // A sum of terms that cancel is as exact as its terms: the running average is held to
  // the size that it had, decayed as the average decays.
  Tensor average_size = at::zeros({buffer().weights.numel()});
  for (const json& golden : golden_["steps"]) {
    buffer().gradients.copy_(flat(golden["gradients"]));
    adamw.update(store_, ++step, golden["lr"], golden["gradient_scale"]);
    const Tensor average = flat(golden["exp_avg"]), square = flat(golden["exp_avg_sq"]);
    average_size = at::maximum(average.abs(), average_size * adamw.beta1);
    EXPECT_TRUE(near_golden(buffer().exp_avg, golden["exp_avg"], average_size)) << "step " << step;
    EXPECT_TRUE(near_golden(buffer().exp_avg_sq, golden["exp_avg_sq"], square)) << "step " << step;
    const Tensor weights = flat(golden["weights"]);
    EXPECT_TRUE(near_golden(buffer().weights, golden["weights"], weights)) << "step " << step;
  }
}

TEST(AdamWTest, InBfloat16TheMasterMovesAndTheWeightsAreItsRounding) {
  const Mesh mesh = solo_mesh();
  ParameterStore::Options whole, half;
  half.dtype = at::kBFloat16;
  SampleModel a(mesh, whole), b(mesh, half);
  for (int64_t step = 1; step <= 5; ++step) {
    for (SampleModel* model : {&a, &b}) {
      for (ParameterStore::Buffer& buffer : model->store.buffers()) {
        buffer.gradients.copy_(normal_tensor({buffer.gradients.numel()},
                                             "gradient " + std::to_string(step), at::kFloat));
      }
      AdamW{}.update(model->store, step, /*lr=*/1e-4, /*gradient_scale=*/1);
      model->store.gather_weights();
    }
  }
  for (const ParameterKind kind : {ParameterKind::kDense, ParameterKind::kExpert}) {
    EXPECT_TRUE(same(b.store.buffer(kind).master, a.store.buffer(kind).weights));
    EXPECT_TRUE(same(b.store.buffer(kind).weights, a.store.buffer(kind).weights.to(at::kBFloat16)));
  }
  EXPECT_TRUE(same(b.embedding.detach(), a.embedding.detach().to(at::kBFloat16)));
}

}  // namespace
}  // namespace switchyard
