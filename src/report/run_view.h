#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "report/metrics_tail.h"
#include "report/run_history.h"

namespace switchyard {

/// One run's folder as the page's model has it, kept up to date while the run goes on.
class RunView {
 public:
  explicit RunView(const std::string& folder);

  /// Reads what metrics.jsonl has more than at the last call, and the small files anew. Throws
  /// DataError when metrics.jsonl cannot be read; a folder or file that is not there yet is an
  /// empty run.
  void refresh();

  const std::string& folder() const { return folder_; }

  /// The run under the name `label`.
  nlohmann::ordered_json to_json(const std::string& label) const;

 private:
  std::string folder_;
  MetricsTail tail_;
  RunHistory history_;
  std::vector<std::string> notes_;
  nlohmann::ordered_json facts_, routing_, settings_;
};

/// Opens the folders of `switchyard report`. Throws DataError for a folder that is not there or has
/// no metrics.jsonl, ConfigError for one that is given twice.
std::vector<RunView> open_runs(const std::vector<std::string>& folders);

/// What the page draws, for one or several runs. Runs whose folders have the same name are
/// labelled with as much of their paths as tells them apart.
nlohmann::ordered_json report_model(const std::vector<RunView>& runs);

}  // namespace switchyard
