#include <algorithm>
#include <cmath>

#include "config/check.h"
#include "config/fields.h"
#include "config/join.h"
#include "config/nearest.h"
#include "config/scalar.h"

namespace switchyard {
namespace {

class ValueChecker {
 public:
  ValueChecker(std::string path, std::vector<Complaint>& complaints)
      : path_(std::move(path)), complaints_(complaints) {}

  template <typename T>
  void operator()(std::string_view key, const T& value, const Rule& rule, std::string_view) {
    check(join_key(path_, key), value, rule);
  }

  template <typename Section>
  void section(std::string_view key, const Section& value, std::string_view) {
    ValueChecker inner(join_key(path_, key), complaints_);
    describe(inner, value);
  }

  template <typename Item>
  void list(std::string_view key, const std::vector<Item>& values, std::string_view text) {
    for (size_t i = 0; i < values.size(); ++i) {
      section(item_key(std::string(key), i, values.size()), values[i], text);
    }
  }

  void layers(std::string_view, const std::string&, std::string_view) {}  // with num_hidden_layers

 private:
  void complain(const std::string& key, const std::string& text) {
    complaints_.push_back({{key}, "`" + key + "` " + text});
  }

  bool is_refused(const std::string& key, const std::string& value, const Rule& rule) {
    for (const Refusal& refusal : rule.refusals) {
      if (value != refusal.word) continue;
      complain(key, value + " " + std::string(refusal.why));
      return true;
    }
    return false;
  }

  void check_number(const std::string& key, double value, const std::string& text,
                    const Rule& rule) {
    if (is_refused(key, text, rule)) return;
    if (!std::isfinite(value)) {
      complain(key, "must be a finite number, got " + text);
    } else if (value > kMaxCount && rule.max == kMaxCount) {
      complain(key, "must be below 2^31, got " + text);
    } else if (!rule.allows(value)) {
      complain(key, "must be " + describe_range(rule) + ", got " + text);
    }
  }

  void check(const std::string& key, int64_t value, const Rule& rule) {
    if (!rule.auto_means.empty() && value == kAuto) return;
    check_number(key, static_cast<double>(value), std::to_string(value), rule);
  }

  void check(const std::string& key, double value, const Rule& rule) {
    check_number(key, value, format_real(value), rule);
  }

  void check(const std::string&, bool, const Rule&) {}

  void check(const std::string& key, const std::string& value, const Rule& rule) {
    const auto& words = rule.words;
    if (words.empty() || std::find(words.begin(), words.end(), value) != words.end()) return;
    if (is_refused(key, value, rule)) return;
    const std::string_view meant = nearest(value, words);
    const std::string one = words.size() == 1 ? "" : "one of ";
    const std::string hint = meant.empty() ? "" : "; did you mean `" + std::string(meant) + "`?";
    complain(key, "must be " + one + join(words, ", ") + ", got `" + value + "`" + hint);
  }

  template <typename T>
  void check(const std::string& key, const std::optional<T>& value, const Rule& rule) {
    if (value) check(key, *value, rule);
  }

  template <typename T>
  void check(const std::string& key, const std::vector<T>& values, const Rule& rule) {
    if (rule.length != 0 && values.size() != rule.length) {
      complain(key, "must be a list of " + std::to_string(rule.length) + ", got " +
                        std::to_string(values.size()));
      return;
    }
    for (size_t i = 0; i < values.size(); ++i) {
      check(key + "[" + std::to_string(i) + "]", values[i], rule);
    }
  }

  void check(const std::string& key, const std::map<std::string, double>& values,
             const Rule& rule) {
    for (const auto& [name, value] : values) check(join_key(key, name), value, rule);
  }

  const std::string path_;
  std::vector<Complaint>& complaints_;
};

std::string bound(double value) {
  const bool whole = value == std::floor(value) && std::abs(value) < 1e15;
  return whole ? std::to_string(static_cast<int64_t>(value)) : format_real(value);
}

std::string describe_min(const Rule& rule) {
  return (rule.min_open ? "above " : "at least ") + bound(rule.min);
}

std::string describe_max(const Rule& rule) {
  return (rule.max_open ? "below " : "at most ") + bound(rule.max);
}

}  // namespace

std::string describe_range(const Rule& rule) {
  const bool has_min = rule.min > -std::numeric_limits<double>::infinity();
  const bool has_max = rule.max < kMaxCount;
  const std::string between = has_min && has_max ? " and " : "";
  return (has_min ? describe_min(rule) : "") + between + (has_max ? describe_max(rule) : "");
}

std::vector<Complaint> check_values(const RunConfig& config) {
  std::vector<Complaint> complaints;
  ValueChecker checker("", complaints);
  describe(checker, config);
  return complaints;
}

}  // namespace switchyard
