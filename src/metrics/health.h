#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "metrics/step_metrics.h"

namespace switchyard {

/// Looks at a run's records for what a user should do something about, and says each once:
///
///   an expert that gets nothing: no copy in the last records, of which there are at least
///   three, and in which balanced routing would have brought it at least 1000 copies;
///
///   capacity that drops much: over 10 % of the routed copies, on average over the MoE
///   layers and the last ten records.
class Health {
 public:
  static constexpr int64_t kDeadRecords = 3;
  static constexpr double kDeadCopies = 1000;
  static constexpr double kMuchDropped = 0.1;
  static constexpr size_t kDropRecords = 10;

  /// Warnings that this record adds, each with what to do.
  std::vector<std::string> look_at(const StepMetrics& metrics);

 private:
  struct Silence {
    int64_t records = 0;
    double balanced_copies = 0;  // that balanced routing would have brought
  };

  void look_for_dead_experts(const MoeLayerMetrics& layer, std::vector<std::string>& warnings);
  void look_at_drops(const StepMetrics& metrics, std::vector<std::string>& warnings);

  std::map<std::pair<int64_t, int64_t>, Silence> silent_;  // by layer and expert
  std::set<std::pair<int64_t, int64_t>> named_;            // dead experts that have been said
  std::deque<double> dropped_;                             // of the last records
  bool said_drops_ = false;
};

}  // namespace switchyard
