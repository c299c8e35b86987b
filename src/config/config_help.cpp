#include <string_view>

#include "base/wrap.h"
#include "config/fields.h"
#include "config/format_value.h"
#include "config/load_config.h"

namespace switchyard {
namespace {

constexpr size_t kWidth = 96;
constexpr size_t kIndent = 6;

std::string wrapped(std::string_view text) { return wrap(text, kIndent, kWidth); }

/// "integer [tokens], at least 1".
std::string with_unit(std::string type, const Rule& rule, const char* each = ", ") {
  if (!rule.unit.empty()) type += " [" + std::string(rule.unit) + "]";
  const std::string range = describe_range(rule);
  return range.empty() ? type : type + each + range;
}

std::string type_of(int64_t, const Rule& rule) { return with_unit("integer", rule); }
std::string type_of(double, const Rule& rule) { return with_unit("number", rule); }
std::string type_of(bool, const Rule&) { return "true or false"; }
std::string type_of(const std::string&, const Rule& rule) {
  return rule.words.empty() ? "text" : "one of " + join(rule.words, " | ");
}
std::string type_of(const std::vector<double>&, const Rule& rule) {
  return with_unit("list of " + std::to_string(rule.length) + " numbers", rule, ", each ");
}
std::string type_of(const std::vector<std::string>&, const Rule&) { return "list of texts"; }
std::string type_of(const std::map<std::string, double>&, const Rule& rule) {
  return with_unit("mapping of names to numbers", rule, ", each ");
}
template <typename T>
std::string type_of(const std::optional<T>&, const Rule& rule) {
  return type_of(T{}, rule);
}

/// "integer [heads], at least 1, or auto = num_attention_heads".
template <typename T>
std::string allowed(const T& value, const Rule& rule) {
  std::string text = type_of(value, rule);
  if (!rule.auto_means.empty()) text += ", or auto = " + std::string(rule.auto_means);
  if (!rule.null_means.empty()) text += ", or null = " + std::string(rule.null_means);
  return text;
}

class HelpWriter {
 public:
  HelpWriter(std::string path, std::string& help) : path_(std::move(path)), help_(help) {}

  template <typename T>
  void operator()(std::string_view key, const T& value, const Rule& rule, std::string_view text) {
    entry(key, format_value(value, rule), allowed(value, rule), text);
  }

  template <typename Section>
  void section(std::string_view key, const Section& value, std::string_view text) {
    heading(key, text);
    HelpWriter inner(join_key(path_, key), help_);
    describe(inner, value);
  }

  template <typename Item>
  void list(std::string_view key, const std::vector<Item>&, std::string_view text) {
    section(key, Item{}, text);
  }

  void layers(std::string_view key, const std::string& value, std::string_view text) {
    entry(key, value, "all | none | every:N | last:N | list of integers", text);
  }

 private:
  void heading(std::string_view key, std::string_view text) {
    help_ += '\n';
    help_ += join_key(path_, key) + "\n";
    help_ += wrapped(text);
  }

  void entry(std::string_view key, const std::string& value, const std::string& takes,
             std::string_view text) {
    help_ += "  " + join_key(path_, key) + ": " + value + "    (" + takes + ")\n" + wrapped(text);
  }

  const std::string path_;
  std::string& help_;
};

}  // namespace

std::string config_help() {
  std::string help =
      "Every key of CONFIG.yaml: its default and, in brackets, its type, its [unit] and what it\n"
      "takes. Only what differs from the default need be written; `--set key=value` takes the\n"
      "same names.\n\n"
      "extends: FILE    A config that this one lays its keys upon; relative to this file.\n";
  HelpWriter writer("", help);
  const RunConfig defaults;
  describe(writer, defaults);
  return help;
}

}  // namespace switchyard
