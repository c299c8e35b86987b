#include "metrics/histogram.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

namespace switchyard {
namespace {

FineHistogram of(const std::vector<float>& values) {
  FineHistogram histogram;
  histogram.add(values);
  return histogram;
}

TEST(HistogramTest, FewBinsStayFine) {
  const Histogram histogram = of({0, 0.01F, 1.0F / 64, -1.0F / 64}).coarse(64);
  EXPECT_EQ(histogram.edges, (std::vector<double>{-1.0 / 64, 0, 1.0 / 64, 2.0 / 64}));
  EXPECT_EQ(histogram.counts, (std::vector<int64_t>{1, 2, 1}));
}

TEST(HistogramTest, ManyBinsAreMergedAtMultiplesOfTheirWidth) {
  std::vector<float> values;
  for (int i = -130; i < 130; ++i) values.push_back(static_cast<float>(i) / 64);
  const Histogram histogram = of(values).coarse(64);
  ASSERT_EQ(histogram.counts.size(), 34u);  // of 8 fine bins each, 7 with what lies between
  EXPECT_EQ(histogram.edges.size(), 35u);
  EXPECT_EQ(histogram.edges[0], -17 * 8.0 / 64);
  EXPECT_EQ(histogram.edges[1], -16 * 8.0 / 64);
  EXPECT_EQ(histogram.counts[0], 2);
  EXPECT_EQ(histogram.counts[1], 8);
  EXPECT_EQ(std::accumulate(histogram.counts.begin(), histogram.counts.end(), 0), 260);
}

TEST(HistogramTest, WhatLiesBeyondIsInTheLastBinsAndNotANumberNowhere) {
  const float infinity = std::numeric_limits<float>::infinity();
  const Histogram histogram =
      of({-infinity, -40, 1e30F, std::numeric_limits<float>::quiet_NaN()}).coarse(4096);
  EXPECT_EQ(histogram.counts.front(), 2);
  EXPECT_EQ(histogram.counts.back(), 1);
  EXPECT_EQ(histogram.edges.front(), -32);
  EXPECT_EQ(histogram.edges.back(), 32);
}

TEST(HistogramTest, NothingHasNoBins) {
  EXPECT_TRUE(FineHistogram().coarse(64).counts.empty());
  EXPECT_TRUE(FineHistogram().coarse(64).edges.empty());
}

TEST(HistogramTest, ExpertsAreTheBinsOfTheirCopies) {
  const Histogram histogram = expert_histogram({5, 0, 7});
  EXPECT_EQ(histogram.edges, (std::vector<double>{0, 1, 2, 3}));
  EXPECT_EQ(histogram.counts, (std::vector<int64_t>{5, 0, 7}));
}

}  // namespace
}  // namespace switchyard
