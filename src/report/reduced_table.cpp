#include "report/reduced_table.h"

#include <algorithm>
#include <cmath>

namespace switchyard {
namespace {

void merge(ReducedTable::Cell& into, const ReducedTable::Cell& other) {
  if (other.highest > into.highest) into.tag_of_highest = other.tag_of_highest;
  into.sum += other.sum;
  into.lowest = std::min(into.lowest, other.lowest);
  into.highest = std::max(into.highest, other.highest);
  into.values += other.values;
}

}  // namespace

size_t ReducedTable::add_column() {
  cells_.emplace_back();
  return cells_.size() - 1;
}

void ReducedTable::begin(int64_t step) {
  if (points() > 0 && records_in_last_ < records_per_point_) {
    last_steps_.back() = step;
    ++records_in_last_;
    return;
  }
  if (points() == max_points_) merge_pairs();
  first_steps_.push_back(step);
  last_steps_.push_back(step);
  records_in_last_ = 1;
}

void ReducedTable::set(size_t column, double value, int64_t tag) {
  if (!std::isfinite(value)) return;
  std::vector<Cell>& cells = cells_[column];
  cells.resize(points());
  merge(cells.back(), Cell{value, value, value, tag, 1});
}

ReducedTable::Cell ReducedTable::cell(size_t column, size_t point) const {
  const std::vector<Cell>& cells = cells_[column];
  return point < cells.size() ? cells[point] : Cell{};
}

ReducedTable::Cell ReducedTable::total(size_t column) const {
  Cell all;
  for (const Cell& cell : cells_[column]) merge(all, cell);
  return all;
}

void ReducedTable::limit(size_t max_points) {
  max_points_ = std::min(max_points_, max_points);
  while (points() > max_points_) merge_pairs();
}

/// An odd last point stays as it is, and is filled up.
void ReducedTable::merge_pairs() {
  const size_t half = (points() + 1) / 2;
  if (points() % 2 == 0) records_in_last_ += records_per_point_;
  for (size_t i = 0; i < half; ++i) {
    first_steps_[i] = first_steps_[2 * i];
    last_steps_[i] = last_steps_[std::min(2 * i + 1, points() - 1)];
  }
  first_steps_.resize(half);
  last_steps_.resize(half);
  for (std::vector<Cell>& cells : cells_) {
    for (size_t i = 0; 2 * i < cells.size(); ++i) {
      Cell merged = cells[2 * i];
      if (2 * i + 1 < cells.size()) merge(merged, cells[2 * i + 1]);
      cells[i] = merged;
    }
    cells.resize((cells.size() + 1) / 2);
  }
  records_per_point_ *= 2;
}

}  // namespace switchyard
