#include "report/run_history.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

void add(RunHistory& history, const std::string& line) {
  MetricsRecord record;
  ASSERT_TRUE(parse_metrics_record(line, record)) << line;
  history.add(record);
}

TEST(RunHistoryTest, ReducesStepsEvaluationsAndLayers) {
  RunHistory history;
  add(history,
      R"({"step": 1, "loss": 8.0, "step_ms": 100, "slowest_rank": 1, "slowest_rank_ms": 9.5,
                   "moe.3.max_load": 1.5, "moe.3.load": [0.75, 0.25, 0.0, 0.0]})");
  add(history,
      R"({"step": 11, "loss": 4.0, "loss_z": 6.5, "step_ms": 50, "slowest_rank": 1, "slowest_rank_ms": 8,
                   "moe.3.max_load": 1.0, "moe.3.load": [0.25, 0.25, 0.25, 0.25]})");
  add(history, R"({"step": 11, "eval": "val", "loss": 4.5, "bits_per_byte": 1.9})");
  const Json json = history.to_json();
  EXPECT_EQ(json["records"], 2);
  EXPECT_EQ(json["last_step"], 11);
  EXPECT_EQ(json["seconds"], 0.6);
  EXPECT_EQ(json["means"]["loss"], 6);
  EXPECT_EQ(json["curves"]["step"], (Json{1, 11}));
  EXPECT_EQ(json["curves"]["columns"]["loss"]["mean"], (Json{8, 4}));
  EXPECT_FALSE(json["curves"]["columns"].contains("grad_norm"));
  EXPECT_EQ(json["evaluations"][0]["split"], "val");
  EXPECT_EQ(json["evaluations"][0]["columns"]["bits_per_byte"]["mean"], Json::array({1.9}));
  EXPECT_EQ(json["spikes"], Json::parse(R"([{"step": 11, "key": "loss", "z": 6.5}])"));
  EXPECT_EQ(json["slowest"]["most_often"], Json::parse(R"([{"rank": 1, "records": 2}])"));
  EXPECT_EQ(json["slowest"]["rank"], (Json{1, 1}));
  EXPECT_EQ(json["layers"]["layers"][0]["layer"], 3);
  EXPECT_EQ(json["layers"]["layers"][0]["dead"]["mean"], (Json{2, 0}));
  EXPECT_EQ(json["load"]["layers"][0]["experts"], 4);
  EXPECT_EQ(json["load"]["layers"][0]["bins"],
            Json::parse("[[3000, 1000, 0, 0], [1000, 1000, 1000, 1000]]"));
}

TEST(RunHistoryTest, ALongRunStaysSmall) {
  RunHistory history;
  MetricsRecord record;
  for (int64_t step = 1; step <= 20'000; ++step) {
    record.step = step;
    record.numbers = {{"loss", step == 777 ? 99.0 : 2.0}};
    record.lists = {{"moe.0.load", {0.5, 0.5}}};
    history.add(record);
  }
  const Json json = history.to_json();
  EXPECT_EQ(json["curves"]["records_per_point"], 32);
  EXPECT_LE(json["curves"]["step"].size(), 1000u);
  EXPECT_LE(json["load"]["step"].size(), 200u);
  const Json highest = json["curves"]["columns"]["loss"]["highest"];
  EXPECT_EQ(*std::max_element(highest.begin(), highest.end()), 99);
  EXPECT_LT(json.dump().size(), 60'000u);
}

TEST(RunHistoryTest, VeryManyExpertsGetFewerBins) {
  RunHistory history;
  MetricsRecord record;
  for (record.step = 1; record.step <= 100; ++record.step) {
    record.lists.clear();
    for (const char* key : {"moe.0.load", "moe.1.load"}) {
      record.lists.emplace_back(key, std::vector<double>(8192, 1.0 / 8192));
    }
    history.add(record);
  }
  const Json load = history.to_json()["load"];
  EXPECT_EQ(load["step"].size(), 25u);
  EXPECT_EQ(load["step"].back(), 100);
  EXPECT_EQ(load["layers"][1]["bins"][24][8191], 1000);
}

TEST(RunHistoryTest, LeavesOutStepsThatDoNotRiseAndKeysThatAreNoLayers) {
  RunHistory history;
  add(history, R"({"step": 5, "loss": 1})");
  add(history, R"({"step": 5, "loss": 2})");
  add(history, R"({"step": 4, "loss": 3})");
  add(history,
      R"({"step": 6, "moe.": 1, "moe.x.load": [1], "moe.-1.load": [1], "moe.99999999999999999999.load": [1],
                   "moe.5000.load": [1], "moe.1": 2, "moe.1.": 3})");
  EXPECT_EQ(history.out_of_order(), 2);
  const Json json = history.to_json();
  EXPECT_EQ(json["records"], 2);
  EXPECT_TRUE(json["load"]["layers"].empty());
}

TEST(RunHistoryTest, AnEmptyRunHasEveryPart) {
  const Json json = RunHistory().to_json();
  EXPECT_EQ(json["records"], 0);
  EXPECT_TRUE(json["curves"]["step"].empty());
  EXPECT_TRUE(json["load"]["layers"].empty());
  EXPECT_TRUE(json["evaluations"].empty());
}

}  // namespace
}  // namespace switchyard
