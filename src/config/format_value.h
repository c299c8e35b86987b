#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config/join.h"
#include "config/rule.h"
#include "config/run_config.h"
#include "config/scalar.h"

// A key's value as YAML on one line.

namespace switchyard {

inline std::string format_value(int64_t value, const Rule& rule) {
  return !rule.auto_means.empty() && value == kAuto ? "auto" : std::to_string(value);
}

inline std::string format_value(double value, const Rule&) { return format_real(value); }

inline std::string format_value(bool value, const Rule&) { return value ? "true" : "false"; }

inline std::string format_value(const std::string& value, const Rule&) {
  return format_text(value);
}

template <typename T>
std::string format_value(const std::optional<T>& value, const Rule& rule) {
  return value ? format_value(*value, rule) : "null";
}

template <typename T>
std::string format_value(const std::vector<T>& values, const Rule& rule) {
  std::vector<std::string> items;
  items.reserve(values.size());
  for (const T& value : values) items.push_back(format_value(value, rule));
  return bracket('[', join(items, ", "), ']');
}

inline std::string format_value(const std::map<std::string, double>& values, const Rule&) {
  std::vector<std::string> items;
  items.reserve(values.size());
  for (const auto& [name, value] : values) {
    items.push_back(format_text(name) + ": " + format_real(value));
  }
  return bracket('{', join(items, ", "), '}');
}

}  // namespace switchyard
