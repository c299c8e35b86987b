#pragma once

#include <string_view>

// Where things are in a flight record's text; for flight_record.cpp, which writes
// it, and rank_state.cpp, which reads it. All lines have kLineBytes, padded with
// spaces before the newline: first "key value" lines, then a table of collectives
// that is written round and round.

namespace switchyard::record_layout {

inline constexpr std::string_view kTitle = "switchyard flight record 1";

enum Line : int {
  kTitleLine,
  kRank,
  kWorld,
  kHost,
  kPid,
  kStatus,
  kStep,
  kPhase,
  kSince,  // of the last change of status, step or phase
  kCheckpoint,
  kCollectives,    // entered so far; the newest is in row (collectives - 1) % kRows
  kCommunicators,  // kMaxCommunicators lines: first stride count name
  kColumns = 20,   // titles of the table
  kFirstRow = 21,
};
inline constexpr int kMaxCommunicators = kColumns - kCommunicators;
inline constexpr int kRows = 256;
inline constexpr int kLines = kFirstRow + kRows;

/// Keys take this much of a line.
inline constexpr int kKeyBytes = 16;

struct Column {
  int begin, width;
};
inline constexpr Column kEntered{0, 24};  // 2026-01-31T12:34:56.789Z
inline constexpr Column kCommunicator{25, 20};
inline constexpr Column kNumber{46, 10};
inline constexpr Column kOp{57, 14};
inline constexpr Column kBytes{72, 14};
inline constexpr Column kTook{87, 14};  // milliseconds; until then kInside or kUnderWay
inline constexpr Column kPurpose{102, 48};
inline constexpr Column kRowsTo{151, 80};
inline constexpr Column kRowsFrom{232, 80};

inline constexpr int kLineBytes = 313;
inline constexpr int kTextBytes = kLines * kLineBytes;

/// In the place of milliseconds.
inline constexpr std::string_view kInside = "inside";
inline constexpr std::string_view kUnderWay = "under way";

/// Stands for the peers whose rows did not fit.
inline constexpr std::string_view kMore = " ...";

}  // namespace switchyard::record_layout
