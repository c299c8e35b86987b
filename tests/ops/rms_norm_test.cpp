#include "ops/rms_norm.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/tensors.h"

namespace switchyard {
namespace {

using at::Tensor;

/// arXiv:1910.07467 eq. 4, word for word.
Tensor formula(const Tensor& x, const Tensor& weight, double eps) {
  return x / at::sqrt(x.square().mean(-1, /*keepdim=*/true) + eps) * weight;
}

TEST(RmsNormTest, ByHand) {
  // The mean square of 1, 7, 5, 5 is 25.
  const Tensor x = at::tensor(std::vector<double>{1, 7, 5, 5});
  const Tensor weight = at::tensor(std::vector<double>{5, 10, -1, 0});
  EXPECT_TRUE(near(rms_norm(x, weight, 0), at::tensor(std::vector<double>{1, 14, -1, 0}), 1e-15));
  // eps stands inside the root: 25 + 75 = 10^2.
  EXPECT_TRUE(
      near(rms_norm(x, weight, 75), at::tensor(std::vector<double>{0.5, 7, -0.5, 0}), 1e-15));
}

TEST(RmsNormTest, EqualsTheFormulaForEveryShape) {
  const Tensor weight = normal_tensor({6}, "weight");
  for (const auto& shape :
       {std::vector<int64_t>{6}, {4, 6}, {2, 3, 6}, {2, 3, 5, 6}, {0, 6}, {70, 6}}) {
    const Tensor x = normal_tensor(shape, "x");
    EXPECT_TRUE(near(rms_norm(x, weight, 1e-5), formula(x, weight, 1e-5), 1e-14));
    EXPECT_TRUE(near(rms_norm(x.to(at::kFloat), weight.to(at::kFloat), 1e-5),
                     formula(x, weight, 1e-5).to(at::kFloat), 1e-6));
  }
}

TEST(RmsNormTest, Bfloat16IsRoundedOnce) {
  const Tensor x = normal_tensor({50, 64}, "x", at::kBFloat16),
               weight = normal_tensor({64}, "weight", at::kBFloat16);
  const Tensor y = rms_norm(x, weight, 1e-6);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  const Tensor exact = formula(x.to(at::kDouble), weight.to(at::kDouble), 1e-6);
  // Half a unit in the last of bfloat16's 8 bits; two roundings would pass it.
  const Tensor error = (y.to(at::kDouble) - exact).abs() / exact.abs();
  EXPECT_LE(error.max().item<double>(), 0x1.0p-8 * 1.001);
}

TEST(RmsNormTest, ARowOfZerosStaysZero) {
  Tensor x = at::zeros({2, 4}).set_requires_grad(true);
  const Tensor y = rms_norm(x, at::ones({4}), 1e-6);
  EXPECT_TRUE(same(y, at::zeros({2, 4})));
  y.sum().backward();
  EXPECT_TRUE(near(x.grad(), at::full({2, 4}, 1000.0F), 1e-6));  // 1 / sqrt(eps)
}

TEST(RmsNormTest, TakesWhatIsNotContiguous) {
  const Tensor x = normal_tensor({6, 4}, "x").t(), weight = normal_tensor({6}, "weight");
  EXPECT_TRUE(near(rms_norm(x, weight, 1e-5), formula(x, weight, 1e-5), 1e-14));
}

TEST(RmsNormTest, GradientsMatchFiniteDifferences) {
  const auto f = [](const std::vector<Tensor>& in) { return rms_norm(in[0], in[1], 1e-3); };
  EXPECT_TRUE(gradients_match(f, {normal_tensor({4, 6}, "x"), normal_tensor({6}, "weight")}));
  EXPECT_TRUE(gradients_match(f, {normal_tensor({2, 2, 3}, "x"), normal_tensor({3}, "weight")}));
}

TEST(RmsNormTest, GradientsInFloat32AndBfloat16) {
  const Tensor x = normal_tensor({40, 16}, "x", at::kBFloat16).to(at::kDouble),
               weight = normal_tensor({16}, "weight", at::kBFloat16).to(at::kDouble),
               dy = normal_tensor({40, 16}, "dy", at::kBFloat16).to(at::kDouble);
  const auto gradients = [&](at::ScalarType dtype) {
    return gradients_of([](const std::vector<Tensor>& in) { return rms_norm(in[0], in[1], 1e-5); },
                        {x.to(dtype), weight.to(dtype)}, dy.to(dtype));
  };
  const auto exact = gradients(at::kDouble), single = gradients(at::kFloat),
             half = gradients(at::kBFloat16);
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(near(single[i], exact[i].to(at::kFloat), 1e-5)) << i;
    EXPECT_TRUE(near(half[i], exact[i].to(at::kBFloat16), 0x1.0p-7)) << i;
  }
}

TEST(RmsNormTest, RefusesWhatDoesNotFit) {
  EXPECT_THROW(rms_norm(at::ones({2, 4}), at::ones({3}), 1e-5), c10::Error);
  EXPECT_THROW(rms_norm(at::ones({2, 4}), at::ones({4}, at::kDouble), 1e-5), c10::Error);
}

}  // namespace
}  // namespace switchyard
