#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <ostream>
#include <string>

#include "faults/faulty_file_ops.h"
#include "faults/variants.h"

namespace switchyard {

/// A way in which every file operation is made to fail in turn.
struct FaultCase {
  const char* name;
  FileFault::Deed deed;
  int error;
  bool for_ever;

  FileFault in_operation(int64_t at) const {
    FileFault fault;
    fault.deed = deed;
    fault.error = error;
    fault.at = at;
    fault.for_ever = for_ever;
    return fault;
  }

  /// Whether the program goes over such a failure of `op`: interrupted calls that have
  /// done nothing are made again, and the rest of a short read or write follows.
  bool is_gone_over(const std::string& op) const {
    if (deed == FileFault::Deed::kShort) return true;
    const bool is_made_again = op == "open" || op == "pread" || op == "write" || op == "flock";
    return error == EINTR && !for_ever && is_made_again;
  }
};

inline void PrintTo(const FaultCase& tested, std::ostream* out) { *out << tested.name; }

inline const auto kFaultCases =
    testing::Values(FaultCase{"Eio", FileFault::Deed::kFail, EIO, false},
                    FaultCase{"EioForEver", FileFault::Deed::kFail, EIO, true},
                    FaultCase{"Enospc", FileFault::Deed::kFail, ENOSPC, false},
                    FaultCase{"EnospcForEver", FileFault::Deed::kFail, ENOSPC, true},
                    FaultCase{"Eintr", FileFault::Deed::kFail, EINTR, false},
                    FaultCase{"EintrForEver", FileFault::Deed::kFail, EINTR, true},
                    FaultCase{"Short", FileFault::Deed::kShort, 0, false},
                    FaultCase{"ShortForEver", FileFault::Deed::kShort, 0, true});

/// The operation in which a fault has struck; "" and "" when it has not.
struct Struck {
  std::string op, path;
  bool any() const { return !op.empty(); }
};

/// Does `action` with a fault in its operation `at`; returns where that has struck.
template <typename Action>
Struck with_fault(const FaultCase& tested, int64_t at, Action&& action) {
  set_file_fault(tested.in_operation(at));
  action();
  const Struck struck{struck_file_op(), struck_file_path()};
  set_file_fault({});
  return struck;
}

/// "operation 7, fsync of /a/b", for SCOPED_TRACE.
inline std::string describe(int64_t at, const Struck& struck) {
  return "operation " + std::to_string(at) + ", " + struck.op + " of " + struck.path;
}

/// How many operations on the next to fail: of other faults than one EIO a sample will do,
/// unless the tests are to try everything.
inline int64_t stride_of(const FaultCase& tested) {
  return is_torture() || (tested.error == EIO && !tested.for_ever) ? 1 : 5;
}

/// What a DataError has to say after such a failure: the file that failed, the system's words
/// and the way out. With a fault that lasts, another call than the first may be the one that
/// counts, on something in `folder`, or on the folder that holds it.
inline void expect_names(const FaultCase& tested, const std::string& folder, const Struck& struck,
                         const std::string& thrown) {
  EXPECT_FALSE(tested.is_gone_over(struck.op)) << thrown;
  const auto has = [&](const std::string& words) {
    return thrown.find(words) != std::string::npos;
  };
  const bool is_near = has(folder) || has(" " + folder_of(folder) + ": ");
  EXPECT_TRUE(has(struck.path) || (tested.for_ever && is_near)) << thrown;
  EXPECT_TRUE(has(std::strerror(tested.error))) << thrown;
  EXPECT_TRUE(has(tested.error == ENOSPC  ? "make room there"
                  : tested.error == EINTR ? "try again"
                                          : "the system's log says more"))
      << thrown;
}

}  // namespace switchyard
