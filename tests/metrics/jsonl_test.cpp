#include "metrics/jsonl.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <bit>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/error.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class JsonlTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "switchyard_jsonl_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ / "metrics.jsonl";
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string text() const {
    std::ostringstream out;
    out << std::ifstream(path_).rdbuf();
    return out.str();
  }
  std::vector<Json> records() const {
    std::vector<Json> all;
    std::ifstream file(path_);
    for (std::string line; std::getline(file, line);) all.push_back(Json::parse(line));
    return all;
  }
  static StepMetrics at_step(int64_t step) {
    StepMetrics metrics;
    metrics.step = step;
    metrics.moe = {layer_metrics(0, {3, 1})};
    return metrics;
  }

  fs::path folder_, path_;
};

TEST_F(JsonlTest, AStepHasEveryKeyOfTheContract) {
  StepMetrics metrics = at_step(7);
  metrics.moe.push_back(layer_metrics(3, {1, 1}));
  const Json json = Json::parse(step_json(metrics));
  for (const char* key : {"step",
                          "tokens",
                          "loss",
                          "aux_loss",
                          "z_loss",
                          "grad_norm",
                          "grad_norm_dense",
                          "grad_norm_expert",
                          "lr",
                          "step_ms",
                          "tokens_per_second",
                          "mfu",
                          "comm_ms",
                          "data_ms",
                          "peak_rss_bytes",
                          "moe.0.max_load",
                          "moe.0.dropped",
                          "moe.0.entropy",
                          "moe.0.load",
                          "moe.3.max_load",
                          "moe.3.dropped",
                          "moe.3.entropy",
                          "moe.3.load"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  EXPECT_FALSE(json.contains("eval"));
  EXPECT_EQ(json["moe.0.load"], (Json{0.75, 0.25}));
  EXPECT_EQ(json["moe.0.max_load"], 1.5);
}

TEST_F(JsonlTest, NumbersReadBackBitEqual) {
  const double awkward[] = {0.1,
                            1.0 / 3,
                            3.2145000000000001,
                            5e-324,
                            1.7976931348623157e308,
                            -0.0,
                            static_cast<double>(0.1F),
                            9007199254740993.0,
                            2.5e-310};
  for (const double value : awkward) {
    StepMetrics metrics;
    metrics.loss = value;
    const std::string line = step_json(metrics);
    const double read = Json::parse(line)["loss"];
    EXPECT_EQ(std::bit_cast<uint64_t>(read), std::bit_cast<uint64_t>(value)) << line;
  }
  StepMetrics metrics;
  metrics.tokens = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(Json::parse(step_json(metrics))["tokens"], metrics.tokens);
}

TEST_F(JsonlTest, NonFiniteNumbersAreNull) {
  StepMetrics metrics = at_step(1);
  metrics.loss = std::numeric_limits<double>::quiet_NaN();
  metrics.grad_norm = std::numeric_limits<double>::infinity();
  metrics.moe[0].load = {-std::numeric_limits<double>::infinity(), 1};
  const Json json = Json::parse(step_json(metrics));
  EXPECT_TRUE(json["loss"].is_null());
  EXPECT_TRUE(json["grad_norm"].is_null());
  EXPECT_TRUE(json["moe.0.load"][0].is_null());
}

TEST_F(JsonlTest, AnEvaluationNamesItsSplitAndMayNotKnowItsBytes) {
  EvalMetrics metrics{100, "val", 0.0, 1.5, 4096};
  Json json = Json::parse(eval_json(metrics));
  EXPECT_EQ(json["eval"], "val");
  EXPECT_EQ(json["step"], 100);
  EXPECT_EQ(json["perplexity"], 1.0);
  EXPECT_EQ(json["bits_per_byte"], 1.5);
  EXPECT_EQ(json["tokens"], 4096);
  metrics.bits_per_byte.reset();
  EXPECT_TRUE(Json::parse(eval_json(metrics))["bits_per_byte"].is_null());
}

TEST_F(JsonlTest, EveryLineIsThereAsSoonAsItIsAppended) {
  JsonlWriter writer(path_);
  writer.append(at_step(1));
  EXPECT_EQ(records().size(), 1U);
  writer.append(EvalMetrics{});
  EXPECT_EQ(records().size(), 2U);
}

TEST_F(JsonlTest, ASecondWriterAppends) {
  JsonlWriter(path_).append(at_step(1));
  JsonlWriter(path_).append(at_step(2));
  ASSERT_EQ(records().size(), 2U);
  EXPECT_EQ(records()[1]["step"], 2);
}

TEST_F(JsonlTest, AResumedRunCutsWhatCameAfterItsStepAndATornLine) {
  {
    JsonlWriter writer(path_);
    for (int64_t step = 1; step <= 4; ++step) {
      writer.append(at_step(step));
      if (step % 2 == 0) writer.append(EvalMetrics{step, "val", 1.0, {}, 8});
    }
  }
  const std::string before = text();
  std::ofstream(path_, std::ios::app) << R"({"step": 1, "loss": 3.)";
  truncate_after_step(path_, 4);
  EXPECT_EQ(text(), before);

  truncate_after_step(path_, 2);
  EXPECT_EQ(text(), before.substr(0, text().size()));
  ASSERT_EQ(records().size(), 3U);
  EXPECT_EQ(records()[2]["eval"], "val");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "left a file behind";

  JsonlWriter(path_).append(at_step(3));
  EXPECT_EQ(records().back()["step"], 3);

  truncate_after_step(path_, 0);
  EXPECT_EQ(text(), "");
}

TEST_F(JsonlTest, ARunWithoutMetricsHasNothingToCut) {
  truncate_after_step(path_, 10);
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(JsonlTest, AFileThatCannotBeOpenedIsNamed) {
  const fs::path missing = folder_ / "nowhere" / "metrics.jsonl";
  try {
    JsonlWriter writer(missing);
    FAIL() << "opened a file in a folder that does not exist";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find(missing.string()), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace switchyard
