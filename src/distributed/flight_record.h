#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/shared_mapping.h"

namespace switchyard {

/// The world ranks of a communicator: first, first + stride, ... in its order.
struct Members {
  int first = 0, stride = 1, count = 1;
  int at(int i) const { return first + i * stride; }
  bool operator==(const Members&) const = default;
};

/// What a rank says of itself.
enum class RankStatus {
  kRunning,
  kFinished,  // it leaves in good order
  kHung,      // its watchdog has seen no progress for too long
  kEnding,    // it has told why and ends the job
};

/// What this rank is doing and its last collectives, as text of fixed width that is
/// at any time good to read: for messages, for the watchdog, for the other ranks and
/// for whoever looks into a run's `flight/` folder while it runs or after it died.
/// rank_state.h reads it back.
///
/// A collective costs half a microsecond in all, and no system call. Any thread may
/// call, but communicators, phases and steps belong to one thread at a time.
class FlightRecord {
 public:
  /// In memory until `open`.
  FlightRecord(int rank, int world_size);
  FlightRecord(const FlightRecord&) = delete;
  FlightRecord& operator=(const FlightRecord&) = delete;

  /// Keeps the record in `folder`/rank-00003.txt (see record_path), where it outlives
  /// this process however it ends. The folder is made; a record that an earlier run
  /// left there becomes rank-00003.previous.txt. Throws DataError. Local.
  void open(const std::string& folder);

  /// The folder of `open`, "" before it.
  const std::string& folder() const { return folder_; }

  /// The optimizer step that is being made, counted from 1.
  void set_step(int64_t step);

  /// The step's folder of the newest checkpoint that is complete.
  void set_last_checkpoint(const std::string& path);

  void set_status(RankStatus status);

  /// Tells the watchdog that work goes on where no phase, step or collective does.
  void touch() { ++changes_; }

  /// What the rank does from here to the end of the scope, by name: "forward",
  /// "save". At the end the outer phase is back; the phase that an exception leaves
  /// is remembered for `where`. Passes the failpoint of the same name. `name` is a
  /// literal.
  class Phase {
   public:
    Phase(FlightRecord& record, const char* name);
    ~Phase();
    Phase(const Phase&) = delete;
    Phase& operator=(const Phase&) = delete;

   private:
    Phase(FlightRecord& record, const char* name, const char* outer);
    FlightRecord& record_;
    const char* const outer_;
    const int exceptions_;  // in flight when the phase began
  };

  /// Grows with every step, phase and collective entered or left.
  uint64_t changes() const { return changes_; }

  /// "" outside all phases.
  const char* phase() const { return phase_; }

  /// For the end of a message: " (step 7, backward; last checkpoint runs/r/...)"; ""
  /// when no step or phase has begun.
  std::string where() const;

  /// The whole record, as in the file.
  std::string text() const;

  /// Makes other hosts see the record's present state. Waits for the disk.
  void sync() const;

  // The communicators' side.

  /// Announces a communicator; its collectives are counted from 1. One of the same
  /// name takes the place of the earlier one, whose collectives are forgotten.
  /// Returns its number here.
  int add_communicator(const std::string& name, Members members);

  /// The rows of an all-to-all, one number per member; cut short in the record when
  /// they do not fit.
  struct Rows {
    const std::vector<int64_t>& to;
    const std::vector<int64_t>& from;
  };

  /// A collective begins; returns what `leave` takes. `op` and `purpose` are copied.
  int64_t enter(int communicator, const char* op, const char* purpose, int64_t bytes,
                const Rows* rows);
  void leave(int64_t ticket, double milliseconds);

  /// Between the two the collective is under way while this rank does something else.
  void step_out(int64_t ticket);
  void step_in(int64_t ticket);

 private:
  const char* enter_phase(const char* name);
  void leave_phase(const char* outer, bool by_exception);
  void write_header(int line, std::string_view key, std::string_view value);
  void write_since();
  char* line(int index);
  void write_took(int64_t ticket, std::string_view text);

  const int rank_;
  std::string folder_;
  mutable std::mutex mutex_;  // guards all below but the atomics
  std::string memory_;        // before open
  std::unique_ptr<SharedMapping> file_;
  char* text_;
  std::vector<std::string> names_;  // of communicators
  std::vector<int64_t> counts_;     // collectives of each
  int64_t collectives_ = 0;         // of all
  int64_t step_ = 0;
  std::string last_checkpoint_;
  const char* failed_phase_ = "";  // that the last exception left
  std::atomic<const char*> phase_ = "";
  std::atomic<uint64_t> changes_ = 0;
};

/// folder/rank-00003.txt
std::string record_path(const std::string& folder, int rank);

}  // namespace switchyard
