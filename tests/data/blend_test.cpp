#include "data/blend.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <numeric>

#include "base/error.h"
#include "base/random.h"

namespace switchyard {
namespace {

/// Walks `places` places; checks that every source's index counts up by one and
/// that the bound of the header holds for every prefix.
void check_prefixes(const Blend& blend, int64_t places) {
  const std::vector<int64_t>& counts = blend.counts();
  const int64_t length = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  const auto k = static_cast<int64_t>(counts.size());
  std::vector<int64_t> seen(counts.size(), 0);
  for (int64_t g = 0; g < places; ++g) {
    const Blend::Place place = blend.at(g);
    ASSERT_EQ(place.index, seen[place.source]++) << g;
    for (int64_t i = 0; i < k && k > 1; ++i) {
      // |seen - (g + 1) c / L| <= 1 - 1 / (2k - 2), in integers.
      const int64_t gap = std::abs(seen[i] * length - (g + 1) * counts[i]) * (2 * k - 2);
      ASSERT_LE(gap, (2 * k - 3) * length) << "source " << i << " after " << g + 1;
    }
  }
}

TEST(BlendTest, OneSourceServesEverything) {
  const Blend blend({3.0});
  EXPECT_EQ(blend.at(0).source, 0);
  EXPECT_EQ(blend.at(1234567890123).index, 1234567890123);
}

TEST(BlendTest, WeightsWithASmallDenominatorAreExact) {
  EXPECT_EQ(Blend({0.7, 0.3}).counts(), (std::vector<int64_t>{7, 3}));
  EXPECT_EQ(Blend({1, 1, 1}).counts(), (std::vector<int64_t>{1, 1, 1}));
  EXPECT_EQ(Blend({2, 6}).counts(), (std::vector<int64_t>{1, 3}));
}

TEST(BlendTest, OtherWeightsAreRoundedByLessThanOneIn65536) {
  const std::vector<double> weights = {std::sqrt(2.0), 1.0, 1.0 / M_PI};
  const double sum = weights[0] + weights[1] + weights[2];
  const Blend blend(weights);
  for (size_t i = 0; i < weights.size(); ++i) {
    EXPECT_LT(std::abs(static_cast<double>(blend.counts()[i]) / 65536 - weights[i] / sum),
              1.0 / 65536);
  }
}

TEST(BlendTest, EveryPrefixIsWithinTijdemansBound) {
  check_prefixes(Blend({0.7, 0.3}), 1000);
  check_prefixes(Blend({1, 1}), 100);
  check_prefixes(Blend({0.5, 0.3, 0.1, 0.06, 0.04}), 1000);
  check_prefixes(Blend({std::sqrt(2.0), 1.0, 1.0 / M_PI}), 140000);
  check_prefixes(Blend({1000, 1, 1, 1, 1, 1, 1, 1}), 5000);
}

TEST(BlendTest, EveryPrefixIsWithinTheBoundForDrawnWeights) {
  const RandomStream random(7, "blend");
  for (int64_t trial = 0; trial < 200; ++trial) {
    const int64_t k = 2 + trial % 9;
    std::vector<double> weights;
    for (int64_t i = 0; i < k; ++i) {
      weights.push_back(1 + std::floor(40 * random.uniform(i, trial)));
    }
    check_prefixes(Blend(weights), 1000);
  }
}

TEST(BlendTest, RefusesWeightsThatServeNothing) {
  EXPECT_THROW(Blend({}), ConfigError);
  EXPECT_THROW(Blend({1, 0}), ConfigError);
  EXPECT_THROW(Blend({1, -1}), ConfigError);
  EXPECT_THROW(Blend({1, NAN}), ConfigError);
  EXPECT_THROW(Blend({1, 1e-7}), ConfigError);
}

}  // namespace
}  // namespace switchyard
