#include "metrics/tensorboard.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/file.h"
#include "base/scratch_folder.h"

// What TensorBoard's own reader makes of the files: tests/python/cli/test_metrics.py.

namespace switchyard {
namespace {

uint64_t number_at(const std::string& bytes, size_t at, size_t size) {
  uint64_t number = 0;
  std::memcpy(&number, bytes.data() + at, size);
  return number;
}

/// The events of the only file in a folder, their frames checked.
std::vector<std::string> events_in(const std::string& folder, size_t file = 0) {
  const std::string bytes = read_file(folder + "/" + list_folder(folder).at(file));
  const auto masked = [](std::string_view data) {
    const uint32_t crc = crc32c(data);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
  };
  std::vector<std::string> events;
  for (size_t at = 0; at < bytes.size();) {
    const size_t length = number_at(bytes, at, 8);
    EXPECT_EQ(number_at(bytes, at + 8, 4), masked(std::string_view(bytes).substr(at, 8)));
    events.push_back(bytes.substr(at + 12, length));
    EXPECT_EQ(number_at(bytes, at + 12 + length, 4), masked(events.back()));
    at += 16 + length;
  }
  return events;
}

TEST(TensorBoardTest, TheChecksumIsThatOfRfc3720) {
  std::string rising(32, '\0'), falling(32, '\0');
  std::iota(rising.begin(), rising.end(), 0);
  std::copy(rising.rbegin(), rising.rend(), falling.begin());
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c(rising), 0x46dd794eu);
  EXPECT_EQ(crc32c(falling), 0x113fdb5cu);
}

TEST(TensorBoardTest, AFileStartsWithItsVersionAndTheStepsThatAreVoid) {
  const ScratchFolder folder;
  const TensorBoardWriter writer(folder.path(), 40);
  const auto events = events_in(folder.path());
  ASSERT_EQ(events.size(), 2u);
  EXPECT_TRUE(
      events[0].ends_with("\x1a\x0d"
                          "brain.Event:2"));
  // step 41, session_log {status: START}, behind the time
  EXPECT_EQ(events[1].substr(9), std::string("\x10\x29\x3a\x02\x08\x01"));
}

TEST(TensorBoardTest, OnlyFiniteNumbersAreScalars) {
  const ScratchFolder folder;
  TensorBoardWriter writer(folder.path(), 0);
  writer.add_scalars({{"step", 300},
                      {"eval", "val"},
                      {"loss", 1.0},
                      {"mfu", std::numeric_limits<double>::quiet_NaN()},
                      {"none", nullptr},
                      {"moe.0.load", {0.5, 0.5}}},
                     "a/");
  const auto events = events_in(folder.path());
  ASSERT_EQ(events.size(), 3u);
  // step 300; summary {value {tag: "a/loss", simple_value: 1}}
  EXPECT_EQ(events[2].substr(9), std::string("\x10\xac\x02\x2a\x0f\x0a\x0d\x0a\x06"
                                             "a/loss\x15\0\0\x80\x3f",
                                             20));
}

TEST(TensorBoardTest, LaterFilesHaveLaterNames) {
  const ScratchFolder folder;
  for (int i = 0; i < 3; ++i) {
    const TensorBoardWriter writer(folder.path(), 10 * i);
    ASSERT_EQ(list_folder(folder.path()).size(), static_cast<size_t>(i) + 1);
    const char first_step = static_cast<char>(10 * i + 1);
    EXPECT_EQ(events_in(folder.path(), static_cast<size_t>(i))[1][10], first_step);
  }
}

}  // namespace
}  // namespace switchyard
