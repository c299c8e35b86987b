#include "config/document.h"

#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <optional>
#include <sstream>
#include <string_view>
#include <utility>

#include "base/utf8.h"

namespace switchyard {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr int kMaxDepth = 16;
constexpr size_t kMaxValues = 100000;  // aliases of aliases grow without bound

/// Ends the reading of one text; the message is already what the user sees.
struct Unreadable {
  Issue issue;
};

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

/// The first byte that no text of a config has, nothing when all are right.
std::optional<size_t> first_strange_byte(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (is_control(text[i]) && text[i] != '\t' && text[i] != '\n' && text[i] != '\r') return i;
  }
  return first_invalid_utf8(text);
}

class Converter {
 public:
  Converter(const std::string& origin, Lines lines, std::vector<Issue>& issues)
      : origin_(origin), lines_(lines), issues_(issues) {}

  Place place(const YAML::Mark& mark) const {
    return {origin_, lines_ == Lines::kNumbered && !mark.is_null() ? mark.line + 1 : 0};
  }

  Value convert(const YAML::Node& node, const std::string& path, int depth) {
    Value value;
    value.place = place(node.Mark());
    if (depth > kMaxDepth) {
      throw Unreadable{{value.place, "nested deeper than 16 levels; no key of a config is"}};
    }
    if (++values_ > kMaxValues) {
      throw Unreadable{{value.place, "more than 100000 values; are there aliases of aliases?"}};
    }
    if (node.IsScalar()) {
      value.kind = Value::Kind::kScalar;
      value.scalar = node.Scalar();
      check_word(value.scalar, value.place);
      value.quoted = node.Tag() == "!";
    } else if (node.IsSequence()) {
      value.kind = Value::Kind::kList;
      for (const YAML::Node& item : node) value.children.push_back(convert(item, path, depth + 1));
    } else if (node.IsMap()) {
      value.kind = Value::Kind::kMap;
      for (const auto& entry : node) add_entry(value, entry.first, entry.second, path, depth);
    }
    return value;
  }

 private:
  /// Escapes ("\x00") bring into words what was not in the text; "\_" and "\N" even what is
  /// no UTF-8, since yaml-cpp 0.7 makes one byte of them.
  static void check_word(const std::string& word, const Place& place) {
    if (std::any_of(word.begin(), word.end(), is_control)) {
      throw Unreadable{{place, "a word with a control character; no key or value has one"}};
    }
    if (first_invalid_utf8(word)) {
      throw Unreadable{{place, "an escape that makes no valid UTF-8; write the character itself"}};
    }
  }

  void add_entry(Value& map, const YAML::Node& key, const YAML::Node& node, const std::string& path,
                 int depth) {
    const Place at = place(key.Mark());
    if (!key.IsScalar()) {
      issues_.push_back({at, "a key must be a word"});
      return;
    }
    const std::string& name = key.Scalar();
    check_word(name, at);
    const std::string full = path.empty() ? name : path + "." + name;
    Value value = convert(node, full, depth + 1);
    value.place = at;
    value.key = name;
    if (Value* first = map.find(name)) {
      issues_.push_back({at, "duplicate key `" + full + "`; it was given at " +
                                 to_string(first->place) + ", keep one of the two"});
      *first = std::move(value);
    } else {
      map.children.push_back(std::move(value));
    }
  }

  const std::string& origin_;
  const Lines lines_;
  std::vector<Issue>& issues_;
  size_t values_ = 0;
};

/// Where the last document of a stream begins.
class LastDocument final : public YAML::EventHandler {
 public:
  const YAML::Mark& mark() const { return mark_; }

  void OnDocumentStart(const YAML::Mark&) override { is_new_ = true; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { see(mark); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { see(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                const std::string&) override {
    see(mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    see(mark);
  }
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    see(mark);
  }
  void OnMapEnd() override {}

 private:
  void see(const YAML::Mark& mark) {
    if (is_new_) mark_ = mark;
    is_new_ = false;
  }

  bool is_new_ = false;
  YAML::Mark mark_;
};

/// Throws unless the text is one document. YAML::LoadAll would count them too, but makes
/// empty documents without end of a text that begins with a comma (yaml-cpp issue 1040).
void check_one_document(const std::string& text, const Converter& converter) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  LastDocument document;
  if (!parser.HandleNextDocument(document)) return;
  const int first = document.mark().pos;
  if (!parser.HandleNextDocument(document)) return;
  throw Unreadable{{converter.place(document.mark()),
                    document.mark().pos == first
                        ? "not valid YAML: a document does not begin like this"
                        : "a second YAML document (after `---`); a config is one document"}};
}

Value parse_or_throw(const std::string& text, Converter& converter, const Place& start) {
  if (text.size() > kMaxBytes) {
    throw Unreadable{{start, std::to_string(text.size()) +
                                 " bytes is more than the 1 MiB a config may have; is it one?"}};
  }
  if (const std::optional<size_t> at = first_strange_byte(text)) {
    const Place place{start.origin, start.line == 0 ? 0 : static_cast<int>(line_of(text, *at))};
    throw Unreadable{{place, "a control character, or no valid UTF-8; a config is text"}};
  }
  try {
    check_one_document(text, converter);
    return converter.convert(YAML::Load(text), "", 0);
  } catch (const YAML::DeepRecursion& error) {
    throw Unreadable{{converter.place(error.mark), "nested too deep; no key of a config is"}};
  } catch (const YAML::Exception& error) {
    throw Unreadable{{converter.place(error.mark), "not valid YAML: " + error.msg}};
  }
}

}  // namespace

const Value* Value::find(std::string_view name) const {
  const auto found = std::find_if(children.begin(), children.end(),
                                  [&](const Value& child) { return child.key == name; });
  return kind == Kind::kMap && found != children.end() ? &*found : nullptr;
}

Value* Value::find(std::string_view name) {
  return const_cast<Value*>(std::as_const(*this).find(name));
}

Value empty_map(const Place& place) {
  Value map;
  map.kind = Value::Kind::kMap;
  map.place = place;
  return map;
}

std::string describe(const Value& value) {
  switch (value.kind) {
    case Value::Kind::kNull:
      return "null";
    case Value::Kind::kList:
      return "a list";
    case Value::Kind::kMap:
      return "a mapping";
    case Value::Kind::kScalar:
      break;
  }
  constexpr size_t kShown = 60;
  const std::string shown = value.scalar.substr(0, kShown);
  return value.quoted ? "the quoted text \"" + shown + "\"" : "`" + shown + "`";
}

Document parse_document(const std::string& text, const std::string& origin, Lines lines) {
  Document document;
  Converter converter(origin, lines, document.issues);
  const Place start{origin, lines == Lines::kNumbered ? 1 : 0};
  try {
    document.root = parse_or_throw(text, converter, start);
  } catch (const Unreadable& unreadable) {
    document.issues.push_back(unreadable.issue);
    document.root = empty_map(start);
    document.complete = false;
  }
  return document;
}

void overlay(Value& base, Value over) {
  if (base.kind != Value::Kind::kMap || over.kind == Value::Kind::kScalar ||
      over.kind == Value::Kind::kList) {
    base = std::move(over);
    return;
  }
  for (Value& child : over.children) {
    if (Value* below = base.find(child.key)) {
      overlay(*below, std::move(child));
    } else {
      base.children.push_back(std::move(child));
    }
  }
}

}  // namespace switchyard
