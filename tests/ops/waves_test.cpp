#include "ops/waves.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

void expect_wave(const Wave& wave, int64_t group, int64_t row, const std::vector<int64_t>& rows_E) {
  EXPECT_EQ(wave.group, group);
  EXPECT_EQ(wave.row, row);
  EXPECT_EQ(wave.rows_E, rows_E);
  int64_t rows = 0;
  for (const int64_t r : rows_E) rows += r;
  EXPECT_EQ(wave.rows, rows);
}

TEST(WavesTest, SmallGroupsShareAWaveAndLargeOnesAreCut) {
  const auto waves = waves_of({3, 0, 4, 2, 26, 1}, /*size=*/10);
  ASSERT_EQ(waves.size(), 4U);
  expect_wave(waves[0], 0, 0, {3, 0, 4, 2});
  expect_wave(waves[1], 4, 9, {10});
  expect_wave(waves[2], 4, 19, {10});
  expect_wave(waves[3], 4, 29, {6, 1});
}

TEST(WavesTest, FewRowsMoreThanAWaveAreNotAWaveOfTheirOwn) {
  const auto waves = waves_of({11, 25, 4, 15}, /*size=*/10);
  ASSERT_EQ(waves.size(), 5U);
  expect_wave(waves[0], 0, 0, {11});
  expect_wave(waves[1], 1, 11, {10});
  expect_wave(waves[2], 1, 21, {15});
  expect_wave(waves[3], 2, 36, {4});
  expect_wave(waves[4], 3, 40, {15});
}

TEST(WavesTest, GroupsThatFillWavesToTheRow) {
  const auto waves = waves_of({10, 20, 5, 5}, /*size=*/10);
  ASSERT_EQ(waves.size(), 4U);
  expect_wave(waves[0], 0, 0, {10});
  expect_wave(waves[1], 1, 10, {10});
  expect_wave(waves[2], 1, 20, {10});
  expect_wave(waves[3], 2, 30, {5, 5});
}

TEST(WavesTest, NoRowsMakeNoWaves) {
  EXPECT_TRUE(waves_of({}, 10).empty());
  EXPECT_TRUE(waves_of({0, 0}, 10).empty());
}

}  // namespace
}  // namespace switchyard
