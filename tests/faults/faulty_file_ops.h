#pragma once

#include <cstdint>
#include <string>

#include "faults/file_fault.h"
#include "faults/file_journal.h"

namespace switchyard {

// An executable that has faulty_file_ops.cpp among its sources makes its file
// operations through it in place of base/file_ops.cpp. It begins with the fault that
// SWITCHYARD_FILE_FAULT tells, and a test may set others. Threads may share it. It
// never waits for the disk: no test cuts the power, the journal does.

/// Counts from 1 again.
void set_file_fault(const FileFault& fault);

/// Operations that counted since the fault was set.
int64_t file_ops_counted();

/// The operation in which the fault first struck: "fsync"; "" while it has not.
std::string struck_file_op();

/// Its path, the first of two.
std::string struck_file_path();

/// Records all that changes from now on; null ends it. The journal must outlive that.
void record_file_ops(FileJournal* journal);

}  // namespace switchyard
