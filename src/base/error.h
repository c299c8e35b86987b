#pragma once

#include <stdexcept>
#include <string>

namespace switchyard {

/// What the process ends with; docs/exit_codes.md has the table.
enum ExitCode : int {
  kExitOk = 0,
  kExitDiffer = 1,      // `diff` and `parity`: the two sides differ
  kExitConfig = 2,      // the user: a YAML key, a flag
  kExitData = 3,        // a file: missing, torn, of another version
  kExitComm = 4,        // the fabric: MPI or NCCL
  kExitBug = 70,        // ours
  kExitWatchdog = 75,   // a hang or a lost peer
  kExitPreempted = 85,  // asked to stop, saved, resumable
  kExitNonFinite = 86,  // too many steps with non-finite numbers
};

/// A failure that the program expects and explains: what, where, and the way
/// out. The subclass says who can mend it; `exit_code` is what the process ends
/// with (see cli/main.cpp).
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& what) : std::runtime_error(what), exit_code(code) {}
  const ExitCode exit_code;
};

/// The user: a YAML key, a command-line flag, an impossible combination.
struct ConfigError : Error {
  explicit ConfigError(const std::string& what) : Error(kExitConfig, what) {}
};

/// A file: missing, truncated, of another version, not what it says it is.
struct DataError : Error {
  explicit DataError(const std::string& what) : Error(kExitData, what) {}
};

/// The fabric: an MPI or NCCL call that did not succeed.
struct CommError : Error {
  explicit CommError(const std::string& what) : Error(kExitComm, what) {}
};

/// The run itself: more non-finite steps than `train.max_skipped_steps`.
struct NonFiniteError : Error {
  explicit NonFiniteError(const std::string& what) : Error(kExitNonFinite, what) {}
};

}  // namespace switchyard
