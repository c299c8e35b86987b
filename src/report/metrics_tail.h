#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace switchyard {

/// One line of metrics.jsonl. null is NaN.
struct MetricsRecord {
  int64_t step = -1;
  std::string split;  // of an evaluation; "" for a step
  std::vector<std::pair<std::string, double>> numbers;
  std::vector<std::pair<std::string, std::vector<double>>> lists;
};

/// Reads a line: a flat JSON object with `step`, its values numbers, texts or lists of numbers.
/// False for anything else; `record` is then of no use. Keys may be missing or unknown.
bool parse_metrics_record(std::string_view line, MetricsRecord& record);

/// The records of a metrics.jsonl that may still grow, read a piece at a time and never twice.
/// A last line without its newline, as a writer or a power cut leaves it, waits.
class MetricsTail {
 public:
  explicit MetricsTail(std::string path) : path_(std::move(path)) {}

  /// Whether what was read before is still there. A run that goes on from a checkpoint replaces the
  /// file by a shorter one: then `restart` and forget its records. Throws DataError when the file
  /// cannot be read.
  bool is_same_file() const;
  void restart();

  /// Calls `see` with each record behind the last call's, in order. Lines that are no record are
  /// counted in `unreadable`. Nothing happens when there is no file yet.
  template <typename See>
  void read_more(See&& see) {
    while (read_piece()) {
      size_t begin = 0;
      for (size_t end; (end = piece_.find('\n', begin)) != std::string::npos; begin = end + 1) {
        const std::string_view line = std::string_view(piece_).substr(begin, end - begin);
        if (line.empty()) continue;
        if (parse_metrics_record(line, record_)) {
          see(record_);
        } else {
          ++unreadable_;
        }
      }
      keep_behind(begin);
    }
  }

  int64_t unreadable() const { return unreadable_; }

 private:
  bool read_piece();
  void keep_behind(size_t begin);

  std::string path_;
  uint64_t offset_ = 0;    // of what was not read yet
  std::string piece_;      // what was read and has no newline yet, in front of what comes
  std::string last_line_;  // to know the file again: the line that ends at `lines_end_`
  uint64_t lines_end_ = 0;
  int64_t unreadable_ = 0;
  MetricsRecord record_;  // its memory is used again
};

}  // namespace switchyard
