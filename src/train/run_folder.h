#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/file_lock.h"
#include "config/run_config.h"
#include "distributed/communicator.h"

namespace switchyard {

/// `train --resume`: kNewest (auto) goes on from the run's newest valid checkpoint if it
/// has one, kStrict insists on one, kNever starts over and puts the old
/// checkpoints aside, kPath takes the named one. The run's checkpoints of steps after
/// the one that it goes on from are put aside too.
struct ResumeOptions {
  enum class Mode { kNewest, kStrict, kNever, kPath } mode = Mode::kNewest;
  std::string path;
};

/// The folder of one run:
///
///   runs/NAME/
///     lock           held by rank 0 of the job that runs
///     config.yaml    the resolved config
///     metrics.jsonl
///     run.json       what runs and where: see metrics/run_record.h
///     routing.json   where the tokens go: see metrics/routing_record.h
///     tb/            metrics.jsonl as TensorBoard events
///     flight/        what each rank did last
///     checkpoints/
///
/// Rank 0 alone changes it; its failures are thrown there and end the job.
class RunFolder {
 public:
  explicit RunFolder(const RunSection& run) : path_(run.dir + "/" + run.name) {}

  const std::string& path() const { return path_; }
  std::string checkpoints() const { return path_ + "/checkpoints"; }
  std::string metrics() const { return path_ + "/metrics.jsonl"; }
  std::string run_record() const { return path_ + "/run.json"; }
  std::string routing() const { return path_ + "/routing.json"; }
  std::string tensorboard() const { return path_ + "/tb"; }
  std::string flight() const { return path_ + "/flight"; }
  std::string lock() const { return path_ + "/lock"; }

  /// Keeps other jobs out. A folder that is not there yet is not made: a job whose input
  /// is wrong leaves nothing behind. Throws DataError that names the job which holds it.
  void lock_if_there();

  /// Makes what is missing, locks it, puts aside what the run abandons, writes
  /// config.yaml, cuts metrics.jsonl after `step`, and removes what killed saves have
  /// left. Throws DataError when anything cannot be written: before the first step, not
  /// at the first save.
  void open(const RunConfig& config, ResumeOptions::Mode mode, int64_t step);

 private:
  void put_aside_what_is_abandoned(ResumeOptions::Mode mode, int64_t step) const;
  void check_that_checkpoints_can_be_made() const;

  std::string path_;
  std::unique_ptr<FileLock> lock_;
};

/// The checkpoint that a run goes on from, "" for none: decided once for all ranks, so
/// that no two start differently, and every byte of it verified by the ranks together.
/// Says on rank 0 what was wrong with newer ones. Throws DataError when there are
/// checkpoints and all are damaged, ConfigError when kStrict finds none. Collective.
std::string checkpoint_to_resume(Communicator& world, const RunFolder& folder,
                                 const ResumeOptions& resume);

}  // namespace switchyard
