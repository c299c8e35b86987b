#include "moe/routers/draws.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, N draws for each.

namespace switchyard {
namespace {

using at::Tensor;

TEST(DrawsTest, ASplitBatchDrawsTheSame) {
  for (const auto& draws : {uniform_draws, normal_draws, gumbel_draws}) {
    const Tensor whole_TN = draws(24, 5, "test", context_of(4, 6));
    EXPECT_TRUE(same(at::cat({draws(6, 5, "test", context_of(1, 6, 0)),
                              draws(18, 5, "test", context_of(3, 6, 1))}),
                     whole_TN));
    EXPECT_FALSE(at::equal(whole_TN, draws(24, 5, "other", context_of(4, 6))));
    EXPECT_FALSE(at::equal(whole_TN, draws(24, 5, "test", context_of(4, 6, 1))));
    TokenContext other_seed = context_of(4, 6);
    other_seed.seed = 8;
    EXPECT_FALSE(at::equal(whole_TN, draws(24, 5, "test", other_seed)));
  }
}

void expect_moments(const Tensor& x_TN, double mean, double std) {
  const double count = static_cast<double>(x_TN.numel());
  EXPECT_NEAR(x_TN.mean().item<double>(), mean, 4 * std / std::sqrt(count));
  EXPECT_NEAR(x_TN.std().item<double>(), std, 0.02 * std);
}

TEST(DrawsTest, HaveTheMomentsOfTheirDistributions) {
  const TokenContext context = context_of(100, 50);
  expect_moments(uniform_draws(5000, 8, "test", context), 0.5, std::sqrt(1 / 12.0));
  expect_moments(normal_draws(5000, 8, "test", context), 0, 1);
  constexpr double kEuler = 0.57721566490153286, kPi = 3.14159265358979324;
  expect_moments(gumbel_draws(5000, 8, "test", context), kEuler, kPi / std::sqrt(6.0));
}

TEST(DrawsTest, NoTokens) {
  EXPECT_EQ(normal_draws(0, 3, "test", context_of(0, 6)).sizes(), (std::vector<int64_t>{0, 3}));
}

}  // namespace
}  // namespace switchyard
