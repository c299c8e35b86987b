// Every file operation by which a run opens its folder fails in turn: the file is named,
// nothing that was there is lost, and a second try goes through.

#include "train/run_folder.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "config/load_config.h"
#include "distributed/flight_record.h"
#include "faults/fault_cases.h"
#include "faults/variants.h"
#include "metrics/jsonl.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

using Mode = ResumeOptions::Mode;
using Names = std::set<std::string>;

constexpr const char* kOldConfig = "train: {steps: 3}\n";
constexpr const char* kOldLog = "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"st";

/// A way to start, in a new place or over a run with checkpoints of steps 1 and 2.
struct Start {
  const char* name;
  bool over_a_run;
  Mode mode;
  int64_t step;
};

void PrintTo(const Start& start, std::ostream* out) { *out << start.name; }

/// The records that stay.
std::string log_up_to(const Start& start) {
  if (!start.over_a_run) return "";
  return std::string(kOldLog).substr(0, start.step * std::string("{\"step\":1}\n").size());
}

EvalMetrics new_record(const Start& start) {
  EvalMetrics metrics;
  metrics.step = start.step + 1;
  return metrics;
}

/// What is there before.
Disk disk_before(const Start& start) {
  const MemoryFolder folder;
  if (!start.over_a_run) return {};
  make_folders(folder / "run/flight");
  make_folders(folder / "run/checkpoints/step-00000003.tmp-0123456789abcdef0123456789abcdef");
  for (const int step : {1, 2}) save_variant(folder / "run/checkpoints", step, step, 1);
  write_file_atomically(folder / "run/lock", "process 1 on elsewhere");
  write_file_atomically(folder / "run/config.yaml", kOldConfig);
  write_file_atomically(folder / "run/config.yaml.tmp-1-2", "train: {st");
  write_file_atomically(folder / "run/metrics.jsonl", kOldLog);
  write_file_atomically(folder / "run/flight/rank-00000.txt", "");
  return disk_at(folder.path());
}

RunConfig config_in(const std::string& dir) {
  RunConfig config;
  config.run.dir = dir;
  config.run.name = "run";
  return config;
}

/// As a run of one rank does, up to its first record; returns the DataError's text, or "".
std::string open_run(const RunConfig& config, const Start& start) {
  try {
    RunFolder folder(config.run);
    folder.lock_if_there();
    folder.open(config, start.mode, start.step);
    JsonlWriter log(folder.metrics());
    FlightRecord record(/*rank=*/0, /*world_size=*/1);
    record.open(folder.flight());
    log.append(new_record(start));
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

/// The file's text, "" when there is none.
std::string text_of(const std::string& path) { return path_exists(path) ? read_file(path) : ""; }

/// Every checkpoint that is anywhere in the folder, put aside or not.
Names checkpoints_in(const std::string& folder) {
  Names found;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    const fs::path& path = entry.path();
    if (path.filename() == kManifestName) found.insert(describe(path.parent_path().string()));
  }
  return found;
}

class RunFolderFaultsTest : public testing::TestWithParam<std::tuple<Start, FaultCase>> {
 protected:
  /// One start with the fault in operation `at`; whether it struck.
  bool start_with_fault_at(int64_t at) {
    const MemoryFolder folder;
    write_disk(before_, folder.path());
    const RunConfig config = config_in(folder.path());
    FileJournal journal(folder.path());
    record_file_ops(&journal);
    std::string thrown;
    const Struck struck = with_fault(fault_, at, [&] { thrown = open_run(config, start_); });
    record_file_ops(nullptr);
    SCOPED_TRACE(describe(at, struck) + ": " + thrown);

    expect_message(folder.path(), thrown, struck);
    expect_nothing_lost(folder.path(), to_yaml(config));
    expect_durable(journal, to_yaml(config), thrown.empty());
    EXPECT_EQ(open_run(config, start_), "");
    expect_opened(folder.path(), to_yaml(config));
    expect_nothing_lost(folder.path(), to_yaml(config));
    return struck.any();
  }

  const FaultCase fault_ = std::get<1>(GetParam());

 private:
  /// Nobody needs what the lock says, nor closes that follow a read or an fsync.
  void expect_message(const std::string& dir, const std::string& thrown,
                      const Struck& struck) const {
    if (!struck.any() || fault_.is_gone_over(struck.op)) {
      EXPECT_EQ(thrown, "");
    } else if (thrown.empty() && !fault_.for_ever) {
      EXPECT_TRUE(struck.op == "close" ||
                  (struck.op == "write" && struck.path == dir + "/run/lock"));
    }
    if (!thrown.empty()) expect_names(fault_, dir, struck, thrown);
  }

  void expect_nothing_lost(const std::string& dir, const std::string& new_config) const {
    const std::string config = text_of(dir + "/run/config.yaml");
    EXPECT_TRUE(config == new_config || config == (start_.over_a_run ? kOldConfig : "")) << config;
    if (!start_.over_a_run) return;
    const Names found = checkpoints_in(dir);
    EXPECT_EQ(found, (Names{"step 1, variant 1", "step 2, variant 2"}));
    const std::string log = text_of(dir + "/run/metrics.jsonl");
    const bool is_put_aside =
        start_.mode == Mode::kNever && text_of(dir + "/run/metrics.jsonl.old-1") == kOldLog;
    const bool is_cut = start_.mode != Mode::kNever && log.starts_with(log_up_to(start_));
    EXPECT_TRUE(log == kOldLog || is_put_aside || is_cut) << log;
  }

  /// The power goes afterwards.
  void expect_durable(const FileJournal& journal, const std::string& new_config,
                      bool opened) const {
    for (const Fate bytes : {Fate::kLost, Fate::kTorn, Fate::kGarbled}) {
      for (const Fate names : {Fate::kKept, Fate::kLost}) {
        const MemoryFolder after;
        write_disk(journal.after_power_cut(journal.size(),
                                           [&](bool is_names) { return is_names ? names : bytes; }),
                   after.path());
        expect_nothing_lost(after.path(), new_config);
        if (opened) {
          EXPECT_EQ(text_of(after / "run/config.yaml"), new_config);
          expect_what_is_abandoned_is_aside(after.path());
        }
      }
    }
  }

  void expect_opened(const std::string& dir, const std::string& new_config) const {
    EXPECT_EQ(text_of(dir + "/run/config.yaml"), new_config);
    const std::string log = start_.mode == Mode::kNever ? "" : log_up_to(start_);
    EXPECT_EQ(text_of(dir + "/run/metrics.jsonl"), log + eval_json(new_record(start_)) + "\n");
    EXPECT_NE(text_of(dir + "/run/lock").find("process " + std::to_string(::getpid())),
              std::string::npos);
    expect_what_is_abandoned_is_aside(dir);
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(dir)) {
      const std::string path = entry.path().string();
      const bool is_aside = path.find(".old-") != std::string::npos;
      EXPECT_TRUE(is_aside || path.find(".tmp-") == std::string::npos) << path;
    }
  }

  void expect_what_is_abandoned_is_aside(const std::string& dir) const {
    const std::vector<int64_t> steps = list_steps(dir + "/run/checkpoints");
    if (start_.over_a_run && start_.mode != Mode::kNever) {
      EXPECT_EQ(steps.front(), start_.step);
    } else {
      EXPECT_TRUE(steps.empty());
    }
  }

  const Start start_ = std::get<0>(GetParam());
  const Disk before_ = disk_before(start_);
};

TEST_P(RunFolderFaultsTest, NothingIsLostAndASecondTryGoesThrough) {
  const int64_t stride = stride_of(fault_);
  int64_t at = 1;
  while (start_with_fault_at(at)) at += stride;
  std::cout << (at - 1) / stride << " operations failed in turn" << std::endl;
}

INSTANTIATE_TEST_SUITE_P(
    StartsAndFaults, RunFolderFaultsTest,
    testing::Combine(testing::Values(Start{"ANewRun", false, Mode::kNewest, 0},
                                     Start{"AResume", true, Mode::kNewest, 2},
                                     Start{"AnEarlierStep", true, Mode::kPath, 1},
                                     Start{"StartingOver", true, Mode::kNever, 0}),
                     kFaultCases),
    [](const auto& tested) {
      return std::string(std::get<0>(tested.param).name) + std::get<1>(tested.param).name;
    });

}  // namespace
}  // namespace switchyard
