#include "config/cost_model.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "config/join.h"
#include "config/nearest.h"
#include "config/scalar.h"
#include "config/sources.h"

namespace switchyard {
namespace {

/// Reads a mapping key by key; mistakes go to `issues`.
class CostReader {
 public:
  CostReader(const Value& map, std::string path, std::vector<Issue>& issues)
      : map_(map), path_(std::move(path)), issues_(issues) {}

  std::string text(std::string_view key) {
    const Value* value = find(key);
    if (value == nullptr) return "";
    if (value->kind != Value::Kind::kScalar) refuse(key, *value, "text");
    return value->scalar;
  }

  int64_t count(std::string_view key) {
    const Value* value = find(key);
    if (value == nullptr) return 1;
    const std::optional<int64_t> number =
        value->kind == Value::Kind::kScalar ? parse_integer(value->scalar) : std::nullopt;
    if (number && *number >= 1) return *number;
    refuse(key, *value, "an integer of at least 1");
    return 1;
  }

  /// Of a rate, in units of `unit` per second.
  double seconds_per(std::string_view key, double unit) {
    const Value* value = find(key);
    if (value == nullptr || value->kind == Value::Kind::kNull) return 0;
    const std::optional<double> number = real(*value);
    if (number && *number > 0) return 1 / (*number * unit);
    refuse(key, *value, "a rate above 0, or null for what costs nothing");
    return 0;
  }

  double microseconds(std::string_view key) {
    const Value* value = find(key);
    if (value == nullptr) return 0;
    const std::optional<double> number = real(*value);
    if (number && *number >= 0) return *number * 1e-6;
    refuse(key, *value, "microseconds, at least 0");
    return 0;
  }

  /// The mapping below a key; nothing where there is none.
  std::optional<CostReader> section(std::string_view key) {
    const Value* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (value->kind == Value::Kind::kMap) {
      return CostReader(*value, join_key(path_, key), issues_);
    }
    refuse(key, *value, "a mapping");
    return std::nullopt;
  }

  bool has(std::string_view key) const { return map_.find(key) != nullptr; }

  /// Called once all keys have been visited.
  void report_unknown_keys() {
    for (const Value& child : map_.children) {
      if (std::ranges::find(known_, child.key) != known_.end()) continue;
      const std::string_view meant = nearest(child.key, known_);
      issues_.push_back(
          {child.place, "unknown key `" + join_key(path_, child.key) + "`" +
                            (meant.empty() ? "; keys here are " + join(known_, ", ")
                                           : "; did you mean `" + join_key(path_, meant) + "`?")});
    }
  }

 private:
  const Value* find(std::string_view key) {
    known_.push_back(key);
    const Value* value = map_.find(key);
    if (value == nullptr) {
      issues_.push_back({map_.place, "`" + join_key(path_, key) + "` is missing; " +
                                         "configs/bench/costs has complete files"});
    }
    return value;
  }

  static std::optional<double> real(const Value& value) {
    return value.kind == Value::Kind::kScalar ? parse_real(value.scalar) : std::nullopt;
  }

  void refuse(std::string_view key, const Value& value, const std::string& expected) {
    issues_.push_back({value.place, "`" + join_key(path_, key) + "` must be " + expected +
                                        ", got " + describe(value)});
  }

  const Value& map_;
  const std::string path_;
  std::vector<Issue>& issues_;
  std::vector<std::string_view> known_;
};

constexpr double kGiga = 1e9;

ThreadCosts read_thread(CostReader reader) {
  ThreadCosts costs;
  const double peak = reader.seconds_per("peak_gflops", kGiga);
  costs.peak_flops = peak > 0 ? 1 / peak : 0;
  costs.flop = reader.seconds_per("products_gflops", kGiga);
  costs.score = reader.seconds_per("scores_giga_per_second", kGiga);
  costs.activation_byte = reader.seconds_per("activations_gbytes_per_second", kGiga);
  costs.weight_byte = reader.seconds_per("weights_gbytes_per_second", kGiga);
  costs.layer = reader.microseconds("layer_us");
  reader.report_unknown_keys();
  return costs;
}

LinkCosts read_host(CostReader reader) {
  LinkCosts link;
  link.message = reader.microseconds("latency_us");
  link.exchange_byte = reader.seconds_per("exchange_gbytes_per_second", kGiga);
  link.reduction_byte = reader.seconds_per("reduction_gbytes_per_second", kGiga);
  reader.report_unknown_keys();
  return link;
}

LinkCosts read_network(CostReader reader) {
  LinkCosts link;
  link.message = reader.microseconds("latency_us");
  link.exchange_byte = link.reduction_byte = reader.seconds_per("gbytes_per_second", kGiga);
  reader.report_unknown_keys();
  return link;
}

}  // namespace

CostModel load_cost_model(const std::string& path) {
  Document document = read_sources(path, {});
  std::vector<Issue>& issues = document.issues;
  CostModel model;
  model.path = path;
  if (document.complete) {
    CostReader reader(document.root, "", issues);
    model.machine = reader.text("machine");
    model.fitted = reader.text("fitted");
    model.cores = reader.count("cores");
    model.ranks_per_host = reader.count("ranks_per_host");
    if (auto inner = reader.section("fp32")) model.fp32 = read_thread(*inner);
    if (auto inner = reader.section("bf16")) model.bf16 = read_thread(*inner);
    model.optimizer_byte = reader.seconds_per("optimizer_gbytes_per_second", kGiga);
    if (auto inner = reader.section("host")) model.host = read_host(*inner);
    if (reader.has("network")) {
      if (auto inner = reader.section("network")) model.network = read_network(*inner);
    }
    reader.report_unknown_keys();
  }
  if (issues.empty()) return model;
  std::string text;
  for (const Issue& issue : issues) {
    text += (text.empty() ? "" : "\n") + to_string(issue.place) + ": " + issue.text;
  }
  throw ConfigError(text);
}

}  // namespace switchyard
