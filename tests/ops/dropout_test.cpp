#include "ops/dropout.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/tensors.h"

// B sequences of S positions, width D.

namespace switchyard {
namespace {

using at::Tensor;

constexpr uint64_t kSeed = 7;

Tensor order_of(const std::vector<int64_t>& order) { return at::tensor(order, at::kLong); }

Tensor mask(const std::vector<int64_t>& order, double rate = 0.3, uint64_t seed = kSeed,
            const std::string& purpose = "dropout/3") {
  const auto sequences = static_cast<int64_t>(order.size());
  return counter_dropout(at::ones({sequences, 32, 32}), rate, seed, purpose, order_of(order));
}

TEST(CounterDropoutTest, DoesNotKnowHowTheBatchWasSplit) {
  const Tensor whole = mask({10, 11, 12, 13});
  EXPECT_TRUE(same(at::cat({mask({10, 11}), mask({12, 13})}), whole));
  EXPECT_TRUE(same(at::cat({mask({13}), mask({12}), mask({11}), mask({10})}), whole.flip(0)));
}

TEST(CounterDropoutTest, RepeatsItselfAndChangesWithEachPartOfItsKey) {
  EXPECT_TRUE(same(mask({10}), mask({10})));
  EXPECT_FALSE(at::equal(mask({10}), mask({11})));
  EXPECT_FALSE(at::equal(mask({10}), mask({10}, 0.3, kSeed + 1)));
  EXPECT_FALSE(at::equal(mask({10}), mask({10}, 0.3, kSeed, "dropout/4")));
}

TEST(CounterDropoutTest, DropsTheShareAndScalesTheRest) {
  for (const double rate : {0.1, 0.5, 0.9}) {
    const Tensor kept = mask({0, 1, 2, 3, 4, 5, 6, 7}, rate);
    const auto scale = static_cast<float>(1 / (1 - rate));
    EXPECT_TRUE(at::logical_or(kept == 0, kept == scale).all().item<bool>());
    // Six standard deviations of 8,192 draws.
    const double dropped = (kept == 0).to(at::kDouble).mean().item<double>();
    EXPECT_NEAR(dropped, rate, 6 * std::sqrt(rate * (1 - rate) / 8192));
  }
}

TEST(CounterDropoutTest, RateZeroIsTheIdentity) {
  const Tensor x_BSD = normal_tensor({2, 3, 4}, "x", at::kFloat);
  EXPECT_TRUE(same(counter_dropout(x_BSD, 0, kSeed, "dropout", order_of({0, 1})), x_BSD));
}

TEST(CounterDropoutTest, TheSameElementsInEveryDtype) {
  const Tensor ones = at::ones({2, 8, 8});
  const auto dropped = [&](at::ScalarType dtype) {
    return counter_dropout(ones.to(dtype), 0.5, kSeed, "dropout", order_of({4, 9})).to(at::kFloat);
  };
  EXPECT_TRUE(same(dropped(at::kBFloat16), dropped(at::kFloat)));
  EXPECT_TRUE(same(dropped(at::kDouble), dropped(at::kFloat)));
}

TEST(CounterDropoutTest, GradientsMatchFiniteDifferences) {
  const auto f = [](const std::vector<Tensor>& in) {
    return counter_dropout(in[0], 0.4, kSeed, "dropout", order_of({5, 2}));
  };
  EXPECT_TRUE(gradients_match(f, {normal_tensor({2, 3, 4}, "x")}));
}

TEST(CounterDropoutTest, RefusesAnOrderThatDoesNotFit) {
  EXPECT_THROW(counter_dropout(at::ones({2, 3, 4}), 0.1, kSeed, "dropout", order_of({1})),
               c10::Error);
}

}  // namespace
}  // namespace switchyard
