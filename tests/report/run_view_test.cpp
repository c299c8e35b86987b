#include "report/run_view.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "base/scratch_folder.h"

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

std::string make_run(const ScratchFolder& folder, const std::string& name) {
  make_folders(folder / name);
  write_file_atomically(folder / name + "/metrics.jsonl", "{\"step\": 1, \"loss\": 2.0}\n");
  return folder / name;
}

TEST(RunViewTest, FoldersThatAreNoRunsAreNamed) {
  const ScratchFolder folder;
  EXPECT_EQ(message_of<DataError>([&] { open_runs({folder / "none"}); }),
            folder / "none" + ": no such folder");
  EXPECT_NE(message_of<DataError>([&] { open_runs({folder.path()}); }).find("has no metrics.jsonl"),
            std::string::npos);
  const std::string run = make_run(folder, "a");
  EXPECT_EQ(message_of<ConfigError>([&] {
              open_runs({run, run + "/../a/"});
            }),
            run + "/../a/: given twice");
}

TEST(RunViewTest, RunsOfOneNameAreToldApartByTheirPaths) {
  const ScratchFolder folder;
  const std::string a = make_run(folder, "x/one/run"), b = make_run(folder, "y/one/run");
  const Json model = report_model(open_runs({a, b + "/"}));
  EXPECT_EQ(model["runs"][0]["label"], "x/one/run");
  EXPECT_EQ(model["runs"][1]["label"], "y/one/run");
  EXPECT_EQ(report_model(open_runs({a}))["runs"][0]["label"], "run");
}

TEST(RunViewTest, GrowsWithTheRunAndGoesBackWithIt) {
  const ScratchFolder folder;
  RunView run(make_run(folder, "a"));
  const auto last_step = [&] {
    run.refresh();
    return run.to_json("a")["last_step"].get<int64_t>();
  };
  EXPECT_EQ(last_step(), 1);
  const std::string metrics = folder / "a/metrics.jsonl";
  write_file_atomically(metrics, read_file(metrics) + "{\"step\": 2}\n{\"step\": 3}\n");
  EXPECT_EQ(last_step(), 3);
  write_file_atomically(metrics, "{\"step\": 1, \"loss\": 2.0}\n");
  EXPECT_EQ(last_step(), 1);
  EXPECT_EQ(run.to_json("a")["records"], 1);
}

TEST(RunViewTest, AFolderThatIsNotThereYetIsAnEmptyRun) {
  const ScratchFolder folder;
  RunView run(folder / "later");
  run.refresh();
  EXPECT_EQ(run.to_json("later")["records"], 0);
}

}  // namespace
}  // namespace switchyard
