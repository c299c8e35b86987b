#include "report/run_view.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "report/run_files.h"

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

/// The last `parts` components of a path.
std::string tail_of(const std::filesystem::path& path, size_t parts) {
  const std::vector<std::filesystem::path> all(path.begin(), path.end());
  std::filesystem::path tail;
  for (size_t i = all.size() - std::min(parts, all.size()); i < all.size(); ++i) tail /= all[i];
  return tail.string();
}

std::filesystem::path full_path(const std::string& folder) {
  std::filesystem::path path = std::filesystem::weakly_canonical(folder);
  return path.has_filename() ? path : path.parent_path();
}

std::vector<std::string> labels_of(const std::vector<RunView>& runs) {
  std::vector<std::string> labels;
  for (size_t parts = 1; parts < 64; ++parts) {
    labels.clear();
    for (const RunView& run : runs) labels.push_back(tail_of(full_path(run.folder()), parts));
    if (std::set<std::string>(labels.begin(), labels.end()).size() == labels.size()) break;
  }
  return labels;
}

std::string lines(int64_t count) {
  return std::to_string(count) + (count == 1 ? " line" : " lines");
}

}  // namespace

RunView::RunView(const std::string& folder) : folder_(folder), tail_(folder + "/metrics.jsonl") {}

void RunView::refresh() {
  if (!tail_.is_same_file()) {
    tail_.restart();
    history_ = RunHistory();
  }
  tail_.read_more([this](const MetricsRecord& record) { history_.add(record); });
  notes_.clear();
  if (tail_.unreadable() > 0) {
    notes_.push_back(lines(tail_.unreadable()) + " of metrics.jsonl could not be read");
  }
  if (history_.out_of_order() > 0) {
    notes_.push_back(lines(history_.out_of_order()) +
                     " of metrics.jsonl left out: their steps do not rise");
  }
  facts_ = read_run_facts(folder_, notes_);
  routing_ = read_routing(folder_, notes_);
  settings_ = read_settings(folder_, notes_);
}

Json RunView::to_json(const std::string& label) const {
  Json json = {{"label", label},  {"folder", folder_},   {"notes", notes_},
               {"facts", facts_}, {"routing", routing_}, {"settings", settings_}};
  json.update(history_.to_json());
  return json;
}

std::vector<RunView> open_runs(const std::vector<std::string>& folders) {
  std::vector<RunView> runs;
  std::set<std::string> seen;
  for (const std::string& folder : folders) {
    if (!is_folder(folder)) throw DataError(folder + ": no such folder");
    if (!path_exists(folder + "/metrics.jsonl")) {
      throw DataError(folder +
                      ": has no metrics.jsonl; a run's folder is run.dir/run.name of its " +
                      "config, such as runs/quickstart");
    }
    if (!seen.insert(full_path(folder).string()).second) {
      throw ConfigError(folder + ": given twice");
    }
    runs.emplace_back(folder);
    runs.back().refresh();
  }
  return runs;
}

Json report_model(const std::vector<RunView>& runs) {
  const std::vector<std::string> labels = labels_of(runs);
  Json list = Json::array();
  for (size_t i = 0; i < runs.size(); ++i) list.push_back(runs[i].to_json(labels[i]));
  return {{"runs", std::move(list)}};
}

}  // namespace switchyard
