#include "report/metrics_tail.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/file.h"
#include "base/scratch_folder.h"

namespace switchyard {
namespace {

std::vector<int64_t> steps_of(MetricsTail& tail) {
  std::vector<int64_t> steps;
  tail.read_more([&](const MetricsRecord& record) { steps.push_back(record.step); });
  return steps;
}

using Steps = std::vector<int64_t>;

TEST(ParseMetricsRecordTest, TakesNumbersListsAndTheSplit) {
  MetricsRecord record;
  ASSERT_TRUE(parse_metrics_record(
      R"({"step": 7, "loss": 2.5, "tokens": 9, "loss_z": null, "moe.0.load": [0.25, null, 0.75], "new": true, "eval": "val"})",
      record));
  EXPECT_EQ(record.step, 7);
  EXPECT_EQ(record.split, "val");
  ASSERT_EQ(record.numbers.size(), 3u);
  EXPECT_EQ(record.numbers[0], (std::pair<std::string, double>("loss", 2.5)));
  EXPECT_EQ(record.numbers[1].second, 9);
  EXPECT_TRUE(std::isnan(record.numbers[2].second));
  ASSERT_EQ(record.lists.size(), 1u);
  EXPECT_EQ(record.lists[0].second.size(), 3u);
  EXPECT_EQ(record.lists[0].second[2], 0.75);
}

TEST(ParseMetricsRecordTest, RefusesWhatIsNoRecord) {
  MetricsRecord record;
  for (const char* line :
       {"", "12", "[]", "{}", "null", R"({"loss": 1})", R"({"step": -1})", R"({"step": "1"})",
        R"({"step": 1.5})", R"({"step": [1]})", R"({"step": 1, "x": {}})",
        R"({"step": 1, "x": [[1]]})", R"({"step": 1, "x": ["a"]})", R"({"step": 1)",
        R"({"step": 1} 2)", "{\"step\": 1, \"x\": \"\xff\"}", R"({"step": 18446744073709551615})",
        R"({"step": 1, "x": 1e999})"}) {
    EXPECT_FALSE(parse_metrics_record(line, record)) << line;
  }
}

TEST(MetricsTailTest, ReadsOnlyWhatIsNewAndLeavesATornLine) {
  const ScratchFolder folder;
  const std::string path = folder / "metrics.jsonl";
  MetricsTail tail(path);
  EXPECT_EQ(steps_of(tail), Steps());
  FileWriter file(path);
  file.append("{\"step\": 1}\n{\"step\": 2}\n{\"st");
  file.flush();
  EXPECT_EQ(steps_of(tail), (Steps{1, 2}));
  EXPECT_EQ(steps_of(tail), Steps());
  file.append("ep\": 3}\n");
  file.flush();
  EXPECT_TRUE(tail.is_same_file());
  EXPECT_EQ(steps_of(tail), (Steps{3}));
  EXPECT_EQ(tail.unreadable(), 0);
}

TEST(MetricsTailTest, CountsLinesThatAreNoRecord) {
  const ScratchFolder folder;
  write_file_atomically(folder / "m", "{\"step\": 1}\nrubbish\n\n\x01\n{\"step\": 2}\n");
  MetricsTail tail(folder / "m");
  EXPECT_EQ(steps_of(tail), (Steps{1, 2}));
  EXPECT_EQ(tail.unreadable(), 2);
}

TEST(MetricsTailTest, KnowsThatARunWentBack) {
  const ScratchFolder folder;
  const std::string path = folder / "metrics.jsonl";
  MetricsTail tail(path);
  write_file_atomically(path, "{\"step\": 1}\n{\"step\": 2, \"loss\": 5.0}\n");
  steps_of(tail);
  write_file_atomically(path, "{\"step\": 1}\n");
  EXPECT_FALSE(tail.is_same_file());
  // Grown again to the old length, with other numbers.
  write_file_atomically(path, "{\"step\": 1}\n{\"step\": 2, \"loss\": 6.0}\n{\"step\": 3}\n");
  EXPECT_FALSE(tail.is_same_file());
  tail.restart();
  EXPECT_EQ(steps_of(tail), (Steps{1, 2, 3}));
}

TEST(MetricsTailTest, LinesMayBeLongerThanAPiece) {
  const ScratchFolder folder;
  std::string line = "{\"step\": 5, \"moe.0.load\": [0";
  for (int i = 0; i < 5'000'000; ++i) line += ",0";
  write_file_atomically(folder / "m", "{\"step\": 4}\n" + line + "]}\n{\"step\": 6}\n");
  MetricsTail tail(folder / "m");
  EXPECT_EQ(steps_of(tail), (Steps{4, 5, 6}));
  EXPECT_TRUE(tail.is_same_file());
}

}  // namespace
}  // namespace switchyard
