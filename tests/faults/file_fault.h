#pragma once

#include <cerrno>
#include <cstdint>
#include <string>

namespace switchyard {

/// What goes wrong in file operations (base/file_ops.h), and in which of them.
/// As text, in SWITCHYARD_FILE_FAULT:
///
///   [rank=R:][path=PART:]DEED@K[+]     or     [rank=R:][path=PART:]count:FILE
///
///   eio, enospc, eintr, einval   the call does nothing and fails so
///   short                        a read or write does half
///   kill, kill-after             SIGKILL to this process before or after the call
///   sleep=200ms                  waits first
///   count:FILE                   at exit, the number of operations into FILE.<rank>
///
/// K counts from 1 the operations of this process, with `path=` only those on paths
/// that contain PART; "+" goes on from K for ever. With `rank=` other ranks are spared.
struct FileFault {
  enum class Deed { kNone, kFail, kShort, kKill, kKillAfter, kSleep, kCount };

  Deed deed = Deed::kNone;
  int64_t at = 1;
  bool for_ever = false;
  int error = EIO;         // of kFail
  int milliseconds = 0;    // of kSleep
  std::string count_file;  // of kCount
  int rank = -1;           // every rank
  std::string path;        // "" is part of every path
};

/// Throws std::invalid_argument.
FileFault parse_file_fault(const std::string& text);

}  // namespace switchyard
