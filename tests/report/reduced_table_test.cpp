#include "report/reduced_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace switchyard {
namespace {

ReducedTable table_of(int64_t records, size_t max_points, auto&& value) {
  ReducedTable table(max_points);
  const size_t column = table.add_column();
  for (int64_t i = 0; i < records; ++i) {
    table.begin(10 * (i + 1));
    table.set(column, value(i), /*tag=*/i);
  }
  return table;
}

TEST(ReducedTableTest, KeepsEveryRecordWhileThereIsRoom) {
  const ReducedTable table = table_of(8, 8, [](int64_t i) { return static_cast<double>(i * i); });
  EXPECT_EQ(table.records_per_point(), 1);
  ASSERT_EQ(table.points(), 8u);
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(table.first_steps()[i], table.last_steps()[i]);
    EXPECT_EQ(table.cell(0, i).mean(), static_cast<double>(i * i));
    EXPECT_EQ(table.cell(0, i).lowest, table.cell(0, i).highest);
  }
}

TEST(ReducedTableTest, MergesNeighboursInPairs) {
  const ReducedTable table = table_of(9, 8, [](int64_t i) { return static_cast<double>(i); });
  EXPECT_EQ(table.records_per_point(), 2);
  EXPECT_EQ(table.points(), 5u);
  EXPECT_EQ(table.first_steps(), (std::vector<int64_t>{10, 30, 50, 70, 90}));
  EXPECT_EQ(table.last_steps(), (std::vector<int64_t>{20, 40, 60, 80, 90}));
  const ReducedTable::Cell second = table.cell(0, 1);
  EXPECT_EQ(second.mean(), 2.5);
  EXPECT_EQ(second.lowest, 2);
  EXPECT_EQ(second.highest, 3);
  EXPECT_EQ(second.tag_of_highest, 3);
}

TEST(ReducedTableTest, BoundsThePointsAndLosesNoExtreme) {
  const auto value = [](int64_t i) {
    return i == 77'777 ? 1e6 : i == 33'333 ? -1e6 : std::sin(0.1 * i);
  };
  const ReducedTable table = table_of(100'000, 1000, value);
  EXPECT_LE(table.points(), 1000u);
  EXPECT_GT(table.points(), 500u);
  double lowest = 0, highest = 0;
  int64_t tag = 0, values = 0;
  for (size_t i = 0; i < table.points(); ++i) {
    const ReducedTable::Cell cell = table.cell(0, i);
    if (cell.highest > highest) tag = cell.tag_of_highest;
    lowest = std::min(lowest, cell.lowest);
    highest = std::max(highest, cell.highest);
    values += cell.values;
    EXPECT_LE(table.first_steps()[i], table.last_steps()[i]);
    if (i > 0) {
      EXPECT_LT(table.last_steps()[i - 1], table.first_steps()[i]);
    }
  }
  EXPECT_EQ(lowest, -1e6);
  EXPECT_EQ(highest, 1e6);
  EXPECT_EQ(tag, 77'777);
  EXPECT_EQ(values, 100'000);
  EXPECT_EQ(table.first_steps().front(), 10);
  EXPECT_EQ(table.last_steps().back(), 1'000'000);
}

TEST(ReducedTableTest, MeansAreThoseOfTheRecords) {
  const ReducedTable table = table_of(1000, 16, [](int64_t i) { return static_cast<double>(i); });
  for (size_t i = 0; i < table.points(); ++i) {
    const double first = table.first_steps()[i] / 10 - 1, last = table.last_steps()[i] / 10 - 1;
    EXPECT_DOUBLE_EQ(table.cell(0, i).mean(), (first + last) / 2);
  }
  EXPECT_DOUBLE_EQ(table.total(0).mean(), 499.5);
}

TEST(ReducedTableTest, ALowerLimitMergesWhatIsThere) {
  ReducedTable table = table_of(7, 8, [](int64_t i) { return static_cast<double>(i); });
  table.limit(4);
  EXPECT_EQ(table.records_per_point(), 2);
  EXPECT_EQ(table.first_steps(), (std::vector<int64_t>{10, 30, 50, 70}));
  EXPECT_EQ(table.last_steps(), (std::vector<int64_t>{20, 40, 60, 70}));
  table.begin(80);
  table.set(0, 7);
  EXPECT_EQ(table.points(), 4u);
  EXPECT_EQ(table.cell(0, 3).mean(), 6.5);
  table.limit(2);
  table.begin(90);
  EXPECT_EQ(table.points(), 2u);
  EXPECT_EQ(table.records_per_point(), 8);
  EXPECT_EQ(table.cell(0, 0).mean(), 3.5);
  EXPECT_EQ(table.last_steps(), (std::vector<int64_t>{80, 90}));
}

TEST(ReducedTableTest, WhatIsNotFiniteOrComesLateIsAGap) {
  ReducedTable table(4);
  const size_t early = table.add_column();
  table.begin(1);
  table.set(early, std::nan(""));
  table.begin(2);
  table.set(early, 5);
  const size_t late = table.add_column();
  table.begin(3);
  table.set(late, 7);
  EXPECT_EQ(table.cell(early, 0).values, 0);
  EXPECT_EQ(table.cell(early, 1).mean(), 5);
  EXPECT_EQ(table.cell(early, 2).values, 0);
  EXPECT_EQ(table.cell(late, 1).values, 0);
  EXPECT_EQ(table.cell(late, 2).mean(), 7);
  for (int64_t step : {4, 5}) table.begin(step);
  EXPECT_EQ(table.cell(early, 0).values, 1);
  EXPECT_EQ(table.cell(early, 0).mean(), 5);
  EXPECT_EQ(table.cell(late, 1).mean(), 7);
}

}  // namespace
}  // namespace switchyard
