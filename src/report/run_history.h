#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_map>
#include <vector>

#include "report/metrics_tail.h"
#include "report/reduced_table.h"

namespace switchyard {

/// The records of one run, reduced to what a page can draw: bounded memory and bounded JSON,
/// however many steps. What a record lacks, as those of older versions do, its curves lack.
class RunHistory {
 public:
  RunHistory();

  /// Steps have to rise; a record of an earlier one is left out and counted.
  void add(const MetricsRecord& record);

  int64_t out_of_order() const { return out_of_order_; }

  /// The part of the page's model that comes from metrics.jsonl.
  nlohmann::ordered_json to_json() const;

 private:
  /// Tables of one MoE layer: `curves` has max_load, dropped, entropy and dead, `load` a column
  /// for each expert's share.
  struct Layer {
    std::vector<size_t> curves;
    std::vector<size_t> load;
  };
  struct Evaluations {
    ReducedTable table{500};
    std::vector<size_t> columns;
  };
  struct Spike {
    int64_t step;
    std::string key;
    double z;
  };

  void add_step(const MetricsRecord& record);
  void add_evaluation(const MetricsRecord& record);
  void add_layer_value(const std::string& key, double value);
  void add_load(const std::string& key, const std::vector<double>& share_E);
  void add_spikes(const MetricsRecord& record);
  Layer* layer_of(const std::string& key, std::string& field);

  nlohmann::ordered_json layers_json() const;
  nlohmann::ordered_json load_json() const;
  nlohmann::ordered_json evaluations_json() const;
  nlohmann::ordered_json slowest_json() const;

  ReducedTable curves_, layer_curves_, load_;
  std::unordered_map<std::string, size_t> curve_columns_;
  std::map<int64_t, Layer> layers_;
  size_t load_columns_ = 0;
  std::map<std::string, Evaluations> evaluations_;  // by split
  std::vector<Spike> spikes_;
  std::map<int64_t, int64_t> times_slowest_;  // by rank
  int64_t records_ = 0, last_step_ = 0, out_of_order_ = 0;
  double milliseconds_ = 0;  // of all steps
};

}  // namespace switchyard
