#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace switchyard {

/// Columns of numbers over the steps of a run, in bounded memory however long it is.
///
/// Up to `max_points` records stay as they are. Beyond, neighbours are merged in pairs, again and
/// again: each point then stands for `records_per_point` records (a power of two; the last
/// point may stand for fewer) and keeps their mean, their lowest and their highest value, so
/// that no extreme is lost. The result depends on the records alone, not on when it is read.
class ReducedTable {
 public:
  struct Cell {
    double sum = 0;
    double lowest = std::numeric_limits<double>::infinity();
    double highest = -std::numeric_limits<double>::infinity();
    int64_t tag_of_highest = 0;  // what came with the highest value; the first of equals
    int64_t values = 0;

    double mean() const { return sum / static_cast<double>(values); }
  };

  /// max_points: even, at least 2.
  explicit ReducedTable(size_t max_points) : max_points_(max_points) {}

  /// A new column, without a value so far; returns its index.
  size_t add_column();

  /// Begins the record of `step`, which is above the one before.
  void begin(int64_t step);

  /// A value of the record that was begun last. What is not finite is left out.
  void set(size_t column, double value, int64_t tag = 0);

  /// At most this many points from here on, even and at least 2; content with more than it has.
  void limit(size_t max_points);

  size_t points() const { return last_steps_.size(); }
  size_t columns() const { return cells_.size(); }
  int64_t records_per_point() const { return records_per_point_; }

  /// Steps of the first and last record of each point.
  const std::vector<int64_t>& first_steps() const { return first_steps_; }
  const std::vector<int64_t>& last_steps() const { return last_steps_; }

  /// A point without values has `values` 0.
  Cell cell(size_t column, size_t point) const;

  /// All records of a column as one.
  Cell total(size_t column) const;

 private:
  void merge_pairs();

  size_t max_points_;
  int64_t records_per_point_ = 1;
  int64_t records_in_last_ = 0;
  std::vector<int64_t> first_steps_, last_steps_;
  std::vector<std::vector<Cell>> cells_;  // by column, then point; may end early
};

}  // namespace switchyard
