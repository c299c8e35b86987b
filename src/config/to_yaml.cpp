#include <string_view>

#include "config/fields.h"
#include "config/format_value.h"
#include "config/load_config.h"

namespace switchyard {
namespace {

class YamlWriter {
 public:
  explicit YamlWriter(size_t indent) : indent_(indent, ' ') {}

  std::string take() && { return std::move(text_); }

  template <typename T>
  void operator()(std::string_view key, const T& value, const Rule& rule, std::string_view) {
    line(key, format_value(value, rule));
  }

  template <typename Section>
  void section(std::string_view key, const Section& value, std::string_view) {
    YamlWriter inner(indent_.size() + 2);
    describe(inner, value);
    text_ += indent_ + std::string(key) + ":\n" + inner.text_;
  }

  template <typename Item>
  void list(std::string_view key, const std::vector<Item>& values, std::string_view text) {
    if (values.empty()) {
      line(key, "[]");
    } else if (values.size() == 1) {
      section(key, values[0], text);
    } else {
      text_ += indent_ + std::string(key) + ":\n";
      for (const Item& value : values) item(value);
    }
  }

  void layers(std::string_view key, const std::string& value, std::string_view) {
    const bool numbers = value.find_first_not_of("0123456789,") == std::string::npos;
    line(key, numbers ? bracket('[', value, ']') : format_text(value));
  }

 private:
  void line(std::string_view key, const std::string& value) {
    text_ += indent_ + std::string(key) + ": " + value + "\n";
  }

  /// A mapping as a list's item: its first line opens with a dash.
  template <typename Item>
  void item(const Item& value) {
    YamlWriter inner(indent_.size() + 4);
    describe(inner, value);
    inner.text_[indent_.size() + 2] = '-';
    text_ += inner.text_;
  }

  const std::string indent_;
  std::string text_;
};

}  // namespace

std::string to_yaml(const RunConfig& config) {
  YamlWriter writer(0);
  describe(writer, config);
  return std::move(writer).take();
}

}  // namespace switchyard
