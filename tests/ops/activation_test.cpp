#include "ops/activation.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/tensors.h"

namespace switchyard {
namespace {

using at::Tensor;

constexpr Ffn kAll[] = {Ffn::kSwiGlu, Ffn::kGeGlu, Ffn::kGelu, Ffn::kRelu};

/// The definition, composed of LibTorch's own functions.
Tensor composed(const Tensor& h, Ffn ffn) {
  const auto halves = h.chunk(2, /*dim=*/-1);
  switch (ffn) {
    case Ffn::kSwiGlu:
      return at::silu(halves[0]) * halves[1];
    case Ffn::kGeGlu:
      return at::gelu(halves[0], "none") * halves[1];
    case Ffn::kGelu:
      return at::gelu(h, "none");
    case Ffn::kRelu:
      return at::relu(h);
  }
  return {};
}

TEST(ActivationTest, WordsOfTheConfig) {
  EXPECT_EQ(parse_ffn("swiglu"), Ffn::kSwiGlu);
  EXPECT_EQ(parse_ffn("geglu"), Ffn::kGeGlu);
  EXPECT_EQ(parse_ffn("gelu"), Ffn::kGelu);
  EXPECT_EQ(parse_ffn("relu"), Ffn::kRelu);
  EXPECT_THROW(parse_ffn("selu"), c10::Error);
  EXPECT_TRUE(is_gated(Ffn::kSwiGlu) && is_gated(Ffn::kGeGlu));
  EXPECT_FALSE(is_gated(Ffn::kGelu) || is_gated(Ffn::kRelu));
}

TEST(ActivationTest, TheFirstHalfIsTheGate) {
  // silu(0) = 0 closes; silu(x) = x / (1 + exp(-x)).
  const Tensor h = at::tensor(std::vector<double>{0, 2, 5, 3}).view({1, 4});
  const double silu_2 = 2 / (1 + std::exp(-2.0)), gelu_2 = 1 + std::erf(2 / std::sqrt(2.0));
  EXPECT_TRUE(near(ffn_activation(h, Ffn::kSwiGlu),
                   at::tensor(std::vector<double>{0, 3 * silu_2}).view({1, 2}), 1e-14));
  EXPECT_TRUE(near(ffn_activation(h, Ffn::kGeGlu),
                   at::tensor(std::vector<double>{0, 3 * gelu_2}).view({1, 2}), 1e-14));
}

TEST(ActivationTest, EachEqualsItsDefinition) {
  const Tensor h = normal_tensor({5, 8}, "h") * 3;
  for (const Ffn ffn : kAll) {
    EXPECT_TRUE(near(ffn_activation(h, ffn), composed(h, ffn), 1e-14));
    EXPECT_TRUE(near(ffn_activation(h.to(at::kFloat), ffn), composed(h.to(at::kFloat), ffn), 1e-6));
    const Tensor half = h.to(at::kBFloat16);
    EXPECT_TRUE(near(ffn_activation(half, ffn),
                     composed(half.to(at::kDouble), ffn).to(at::kBFloat16), 0x1.0p-6));
  }
}

TEST(ActivationTest, GradientsMatchFiniteDifferences) {
  for (const Ffn ffn : kAll) {
    const auto f = [ffn](const std::vector<Tensor>& in) { return ffn_activation(in[0], ffn); };
    EXPECT_TRUE(gradients_match(f, {normal_tensor({3, 6}, "h")})) << static_cast<int>(ffn);
    EXPECT_TRUE(gradients_match(f, {normal_tensor({2, 2, 4}, "h")})) << static_cast<int>(ffn);
  }
}

TEST(ActivationTest, NoRowsKeepTheGraph) {
  for (const Ffn ffn : kAll) {
    Tensor h = at::empty({0, 8}).set_requires_grad(true);
    const Tensor y = ffn_activation(h, ffn);
    EXPECT_EQ(y.size(1), is_gated(ffn) ? 4 : 8);
    ASSERT_TRUE(y.requires_grad());
    y.sum().backward();
    EXPECT_EQ(h.grad().sizes(), h.sizes());
  }
}

}  // namespace
}  // namespace switchyard
