#include <string_view>
#include <utility>

#include "config/fields.h"
#include "config/format_value.h"
#include "config/join.h"
#include "config/load_config.h"

namespace switchyard {
namespace {

using Values = std::vector<std::pair<std::string, std::string>>;

class ValueCollector {
 public:
  ValueCollector(std::string path, Values& values) : path_(std::move(path)), values_(values) {}

  template <typename T>
  void operator()(std::string_view key, const T& value, const Rule& rule, std::string_view) {
    values_.emplace_back(join_key(path_, key), format_value(value, rule));
  }

  template <typename Section>
  void section(std::string_view key, const Section& value, std::string_view) {
    ValueCollector inner(join_key(path_, key), values_);
    describe(inner, value);
  }

  template <typename Item>
  void list(std::string_view key, const std::vector<Item>& values, std::string_view text) {
    values_.emplace_back(join_key(path_, key), std::to_string(values.size()) + " items");
    for (size_t i = 0; i < values.size(); ++i) {
      section(item_key(std::string(key), i, values.size()), values[i], text);
    }
  }

  void layers(std::string_view key, const std::string& value, std::string_view) {
    values_.emplace_back(join_key(path_, key), value);
  }

 private:
  const std::string path_;
  Values& values_;
};

Values values_of(const RunConfig& config) {
  Values values;
  ValueCollector collector("", values);
  describe(collector, config);
  return values;
}

}  // namespace

std::vector<std::string> differences(const RunConfig& ours, const RunConfig& theirs) {
  const Values here = values_of(ours), there = values_of(theirs);
  std::vector<std::string> lines;
  for (const auto& [key, value] : here) {
    for (const auto& [other_key, other] : there) {
      if (key != other_key || value == other) continue;
      lines.push_back("`" + key + "` is " + value + " here, " + other + " there");
    }
  }
  return lines;
}

}  // namespace switchyard
