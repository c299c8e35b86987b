#include "metrics/run_record.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/scratch_folder.h"

namespace switchyard {
namespace {

using Json = nlohmann::json;

RunRecord started_at(const std::string& time, int64_t step) {
  RunRecord record;
  record.name = "quick\xff";
  record.started = {{time, step, 2, {"a", "b"}, step > 0 ? "runs/q/step" : ""}};
  record.planned_bytes_per_rank = {{"parameters", 3}, {"total", 3}};
  record.moe_layers = {0, 2};
  record.data = {{"novels", "data/novels", 99}};
  return record;
}

TEST(RunRecordTest, EachStartIsAppended) {
  const ScratchFolder folder;
  const std::string path = folder.path() + "/run.json";
  write_run_record(path, started_at("2026-11-27T23:14:13Z", 0));
  write_run_record(path, started_at("2026-11-28T00:00:00Z", 40));
  const Json json = Json::parse(read_file(path));
  ASSERT_EQ(json["started"].size(), 2u);
  EXPECT_EQ(json["started"][0]["time"], "2026-11-27T23:14:13Z");
  EXPECT_EQ(json["started"][1]["step"], 40);
  EXPECT_EQ(json["started"][1]["hosts"], Json({"a", "b"}));
  EXPECT_EQ(json["started"][1]["resumed_from"], "runs/q/step");
  EXPECT_EQ(json["moe_layers"], Json({0, 2}));
  EXPECT_EQ(json["planned_bytes_per_rank"], Json({{"parameters", 3}, {"total", 3}}));
  EXPECT_EQ(json["data"],
            Json::parse(R"([{"name": "novels", "path": "data/novels", "tokens": 99}])"));
}

TEST(RunRecordTest, WhatIsNoRecordIsReplaced) {
  const ScratchFolder folder;
  const std::string path = folder.path() + "/run.json";
  for (const char* text : {"", "{\"started\": 3", "[1]", "{\"started\": 3}"}) {
    write_file_atomically(path, text);
    write_run_record(path, started_at("2026-11-27T23:14:13Z", 0));
    EXPECT_EQ(Json::parse(read_file(path))["started"].size(), 1u) << text;
  }
}

TEST(RunRecordTest, TheTimeIsInUtc) {
  const std::string now = utc_now();
  ASSERT_EQ(now.size(), 20u) << now;
  EXPECT_EQ(now[10], 'T');
  EXPECT_EQ(now[19], 'Z');
}

}  // namespace
}  // namespace switchyard
