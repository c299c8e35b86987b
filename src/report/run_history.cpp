#include "report/run_history.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "metrics/console.h"

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

// Points of a curve; of a layer's curve, of which there are many; bins of the heat map.
constexpr size_t kCurvePoints = 1000, kLayerPoints = 500, kLoadBins = 200;

/// Cells of all heat maps together; models of very many experts get fewer bins, but some.
constexpr size_t kLoadCells = 1 << 19, kMinLoadBins = 16;

constexpr size_t kMaxSpikes = 100;

// Against files that are no run's.
constexpr int64_t kMaxLayers = 1024;
constexpr size_t kMaxLoadColumns = 1 << 17, kMaxSplits = 64, kMaxRanks = 1 << 16;

const std::vector<std::string> kCurves = {"loss",
                                          "aux_loss",
                                          "z_loss",
                                          "grad_norm",
                                          "grad_norm_dense",
                                          "grad_norm_expert",
                                          "lr",
                                          "step_ms",
                                          "tokens_per_second",
                                          "mfu",
                                          "data_ms",
                                          "forward_ms",
                                          "backward_ms",
                                          "comm_ms",
                                          "optimizer_ms",
                                          "checkpoint_ms",
                                          "peak_rss_bytes",
                                          "skipped_steps",
                                          "tokens",
                                          "slowest_rank_ms",
                                          "typical_rank_ms",
                                          "exchange_bytes"};
const std::vector<std::string> kLayerCurves = {"max_load", "dropped", "entropy",
                                               "dead"};  // dead: last
const std::vector<std::string> kEvaluation = {"loss", "perplexity", "bits_per_byte", "tokens"};

/// Six digits: more than a screen shows, half the bytes.
Json rounded(double value) {
  if (!std::isfinite(value)) return nullptr;
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  const double short_value = std::strtod(text, nullptr);
  const bool whole = std::abs(short_value) < 1e15 && short_value == std::floor(short_value);
  return whole ? Json(static_cast<int64_t>(short_value)) : Json(short_value);
}

double number_of(const MetricsRecord& record, const std::string& key) {
  for (const auto& [name, value] : record.numbers) {
    if (name == key) return value;
  }
  return std::nan("");
}

/// mean, and lowest and highest where points stand for several records.
Json column_json(const ReducedTable& table, size_t column) {
  Json mean = Json::array(), lowest = Json::array(), highest = Json::array();
  for (size_t i = 0; i < table.points(); ++i) {
    const ReducedTable::Cell cell = table.cell(column, i);
    const bool some = cell.values > 0;
    mean.push_back(some ? rounded(cell.mean()) : Json());
    lowest.push_back(some ? rounded(cell.lowest) : Json());
    highest.push_back(some ? rounded(cell.highest) : Json());
  }
  Json json = {{"mean", std::move(mean)}};
  if (table.records_per_point() > 1) {
    json["lowest"] = std::move(lowest);
    json["highest"] = std::move(highest);
  }
  return json;
}

Json table_json(const ReducedTable& table) {
  return {{"records_per_point", table.records_per_point()},
          {"first_step", table.first_steps()},
          {"step", table.last_steps()}};
}

bool has_values(const ReducedTable& table, size_t column) { return table.total(column).values > 0; }

}  // namespace

RunHistory::RunHistory() : curves_(kCurvePoints), layer_curves_(kLayerPoints), load_(kLoadBins) {
  for (const std::string& key : kCurves) curve_columns_[key] = curves_.add_column();
}

void RunHistory::add(const MetricsRecord& record) {
  if (record.split.empty()) {
    add_step(record);
  } else {
    add_evaluation(record);
  }
}

void RunHistory::add_step(const MetricsRecord& record) {
  if (records_ > 0 && record.step <= last_step_) {
    ++out_of_order_;
    return;
  }
  const double step_ms = number_of(record, "step_ms");
  if (std::isfinite(step_ms)) {
    milliseconds_ += step_ms * static_cast<double>(record.step - last_step_);
  }
  ++records_;
  last_step_ = record.step;
  curves_.begin(record.step);
  layer_curves_.begin(record.step);
  load_.begin(record.step);
  const double slowest = number_of(record, "slowest_rank");
  const auto rank = std::isfinite(slowest) ? static_cast<int64_t>(slowest) : -1;
  if (rank >= 0 && times_slowest_.size() < kMaxRanks) ++times_slowest_[rank];
  for (const auto& [key, value] : record.numbers) {
    const auto column = curve_columns_.find(key);
    if (column != curve_columns_.end()) {
      curves_.set(column->second, value, rank);
    } else if (key.starts_with("moe.")) {
      add_layer_value(key, value);
    }
  }
  for (const auto& [key, values] : record.lists) add_load(key, values);
  add_spikes(record);
}

/// "moe.3.dropped" -> layer 3 and "dropped"; null for what is no such key.
RunHistory::Layer* RunHistory::layer_of(const std::string& key, std::string& field) {
  if (!key.starts_with("moe.")) return nullptr;
  const char* const begin = key.data() + 4;
  const char* const end = key.data() + key.size();
  int64_t number = 0;
  const std::from_chars_result read = std::from_chars(begin, end, number);
  if (read.ec != std::errc() || read.ptr == end || *read.ptr != '.') return nullptr;
  if (number < 0 || number >= kMaxLayers) return nullptr;
  field.assign(read.ptr + 1, end);
  Layer& layer = layers_[number];
  while (layer.curves.size() < kLayerCurves.size()) {
    layer.curves.push_back(layer_curves_.add_column());
  }
  return &layer;
}

void RunHistory::add_layer_value(const std::string& key, double value) {
  std::string field;
  Layer* layer = layer_of(key, field);
  if (layer == nullptr) return;
  const auto found = std::find(kLayerCurves.begin(), kLayerCurves.end(), field);
  if (found == kLayerCurves.end() || field == "dead") return;
  layer_curves_.set(layer->curves[static_cast<size_t>(found - kLayerCurves.begin())], value);
}

/// The dead experts are counted here, not read: records of older versions do not tell them.
void RunHistory::add_load(const std::string& key, const std::vector<double>& share_E) {
  std::string field;
  Layer* layer = layer_of(key, field);
  if (layer == nullptr || field != "load" || share_E.empty()) return;
  while (layer->load.size() < share_E.size() && load_columns_ < kMaxLoadColumns) {
    layer->load.push_back(load_.add_column());
    ++load_columns_;
  }
  load_.limit(std::max(kMinLoadBins, kLoadCells / load_columns_ / 2 * 2));
  const size_t experts = std::min(share_E.size(), layer->load.size());
  for (size_t e = 0; e < experts; ++e) load_.set(layer->load[e], share_E[e]);
  const auto dead = std::count(share_E.begin(), share_E.end(), 0.0);
  layer_curves_.set(layer->curves.back(), static_cast<double>(dead));
}

void RunHistory::add_spikes(const MetricsRecord& record) {
  for (const char* key : {"loss", "grad_norm"}) {
    const double z = number_of(record, std::string(key) + "_z");
    if (std::isfinite(z) && z >= kMarkedZ) spikes_.push_back({record.step, key, z});
  }
  if (spikes_.size() <= 2 * kMaxSpikes) return;
  std::stable_sort(spikes_.begin(), spikes_.end(),
                   [](const Spike& a, const Spike& b) { return a.z > b.z; });
  spikes_.resize(kMaxSpikes);
}

void RunHistory::add_evaluation(const MetricsRecord& record) {
  if (evaluations_.size() == kMaxSplits && !evaluations_.contains(record.split)) return;
  Evaluations& split = evaluations_[record.split];
  ReducedTable& table = split.table;
  if (table.points() > 0 && record.step <= table.last_steps().back()) {
    ++out_of_order_;
    return;
  }
  while (split.columns.size() < kEvaluation.size()) split.columns.push_back(table.add_column());
  table.begin(record.step);
  for (size_t i = 0; i < kEvaluation.size(); ++i) {
    table.set(split.columns[i], number_of(record, kEvaluation[i]));
  }
}

Json RunHistory::to_json() const {
  Json curves = table_json(curves_), means = Json::object(), columns = Json::object();
  for (const std::string& key : kCurves) {
    const size_t column = curve_columns_.at(key);
    if (!has_values(curves_, column)) continue;
    means[key] = rounded(curves_.total(column).mean());
    columns[key] = column_json(curves_, column);
  }
  curves["columns"] = std::move(columns);

  std::vector<Spike> spikes = spikes_;
  std::stable_sort(spikes.begin(), spikes.end(),
                   [](const Spike& a, const Spike& b) { return a.z > b.z; });
  spikes.resize(std::min(spikes.size(), kMaxSpikes));
  Json marks = Json::array();
  for (const Spike& spike : spikes) {
    marks.push_back({{"step", spike.step}, {"key", spike.key}, {"z", rounded(spike.z)}});
  }
  return {{"records", records_},
          {"last_step", last_step_},
          {"seconds", rounded(milliseconds_ / 1e3)},
          {"means", std::move(means)},
          {"curves", std::move(curves)},
          {"evaluations", evaluations_json()},
          {"spikes", std::move(marks)},
          {"slowest", slowest_json()},
          {"layers", layers_json()},
          {"load", load_json()}};
}

Json RunHistory::layers_json() const {
  Json json = table_json(layer_curves_), list = Json::array();
  for (const auto& [number, layer] : layers_) {
    Json one = {{"layer", number}};
    for (size_t i = 0; i < kLayerCurves.size(); ++i) {
      if (!has_values(layer_curves_, layer.curves[i])) continue;
      one[kLayerCurves[i]] = column_json(layer_curves_, layer.curves[i]);
    }
    list.push_back(std::move(one));
  }
  json["layers"] = std::move(list);
  return json;
}

/// Each expert's mean share times the number of experts, in thousandths: 1000 is an even share.
Json RunHistory::load_json() const {
  Json json = table_json(load_), list = Json::array();
  for (const auto& [number, layer] : layers_) {
    if (layer.load.empty()) continue;
    const auto experts = static_cast<double>(layer.load.size());
    Json bins = Json::array();
    for (size_t i = 0; i < load_.points(); ++i) {
      Json bin = Json::array();
      for (const size_t column : layer.load) {
        const ReducedTable::Cell cell = load_.cell(column, i);
        if (cell.values == 0) {
          bin.push_back(nullptr);
        } else {
          // A share above none is never shown as none.
          const double thousandths = std::round(cell.mean() * experts * 1000);
          bin.push_back(static_cast<int64_t>(cell.sum > 0 ? std::max(1.0, thousandths) : 0.0));
        }
      }
      bins.push_back(std::move(bin));
    }
    list.push_back({{"layer", number}, {"experts", layer.load.size()}, {"bins", std::move(bins)}});
  }
  json["layers"] = std::move(list);
  return json;
}

Json RunHistory::evaluations_json() const {
  Json list = Json::array();
  for (const auto& [split, evaluations] : evaluations_) {
    Json one = table_json(evaluations.table), columns = Json::object();
    one["split"] = split;
    for (size_t i = 0; i < kEvaluation.size(); ++i) {
      if (!has_values(evaluations.table, evaluations.columns[i])) continue;
      columns[kEvaluation[i]] = column_json(evaluations.table, evaluations.columns[i]);
    }
    one["columns"] = std::move(columns);
    list.push_back(std::move(one));
  }
  return list;
}

/// How often each rank was the slowest, the most often first; and at each point of the curves,
/// which rank was slowest when slowest_rank_ms was at its highest.
Json RunHistory::slowest_json() const {
  std::vector<std::pair<int64_t, int64_t>> counts(times_slowest_.begin(), times_slowest_.end());
  std::stable_sort(counts.begin(), counts.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  counts.resize(std::min<size_t>(counts.size(), 8));
  Json most = Json::array(), ranks = Json::array();
  for (const auto& [rank, count] : counts) most.push_back({{"rank", rank}, {"records", count}});
  const size_t column = curve_columns_.at("slowest_rank_ms");
  if (has_values(curves_, column)) {
    for (size_t i = 0; i < curves_.points(); ++i) {
      const ReducedTable::Cell cell = curves_.cell(column, i);
      ranks.push_back(cell.values > 0 ? Json(cell.tag_of_highest) : Json());
    }
  }
  return {{"most_often", std::move(most)}, {"rank", std::move(ranks)}};
}

}  // namespace switchyard
