#include "config/sources.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "config/join.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxBytes = uint64_t{1} << 20;

/// The root as a mapping: an empty file is one without keys.
void require_map(Document& document, const Place& start) {
  if (document.root.kind == Value::Kind::kNull) document.root = empty_map(start);
  if (document.root.kind == Value::Kind::kMap) return;
  document.issues.push_back(
      {document.root.place,
       "a config is a mapping (`key: value` lines), got " + describe(document.root)});
  document.root = empty_map(start);
  document.complete = false;
}

/// Takes `extends` out of the root.
std::optional<Value> take_extends(Document& document) {
  std::vector<Value>& children = document.root.children;
  const auto found = std::find_if(children.begin(), children.end(),
                                  [](const Value& child) { return child.key == "extends"; });
  if (found == children.end()) return std::nullopt;
  Value extends = std::move(*found);
  children.erase(found);
  return extends;
}

/// Reads files along `extends`, the base first.
class ChainReader {
 public:
  Document read(const std::string& path) {
    Document document = read_one(path);
    const std::optional<Value> extends = take_extends(document);
    if (!extends) return document;
    if (extends->kind != Value::Kind::kScalar || extends->scalar.empty()) {
      document.issues.push_back(
          {extends->place, "`extends` must be the name of one file, got " + describe(*extends)});
      return document;
    }
    return extend(path, *extends, std::move(document));
  }

 private:
  Document read_one(const std::string& path) {
    chain_.push_back(path);
    const Place start{path, 1};
    if (FileReader(path).size() > kMaxBytes) {
      const Issue issue{start, "more than the 1 MiB a config may have; is it one?"};
      return {empty_map(start), {issue}, false};
    }
    Document document = parse_document(read_file(path), path, Lines::kNumbered);
    require_map(document, start);
    return document;
  }

  Document extend(const std::string& path, const Value& extends, Document over) {
    const std::string target =
        (fs::path(path).parent_path() / extends.scalar).lexically_normal().string();
    if (is_in_chain(target)) {
      over.issues.push_back({extends.place, "`extends` goes in a circle: " + chain_text() + target +
                                                "; remove one of them"});
      return over;
    }
    Document base = read_base(target, extends.place);
    overlay(base.root, std::move(over.root));
    base.issues.insert(base.issues.end(), over.issues.begin(), over.issues.end());
    base.complete = base.complete && over.complete;
    return base;
  }

  Document read_base(const std::string& target, const Place& place) {
    try {
      return read(target);
    } catch (const DataError& error) {
      throw DataError(to_string(place) + ": `extends`: " + error.what());
    }
  }

  bool is_in_chain(const std::string& target) const {
    return std::any_of(chain_.begin(), chain_.end(), [&](const std::string& file) {
      std::error_code ignored;
      return fs::weakly_canonical(file, ignored) == fs::weakly_canonical(target, ignored);
    });
  }

  std::string chain_text() const {
    std::string text;
    for (const std::string& file : chain_) text += file + " -> ";
    return text;
  }

  std::vector<std::string> chain_;
};

std::vector<std::string> split_path(const std::string& path) {
  std::vector<std::string> parts(1);
  for (const char c : path) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

/// {a: {b: value}} of `a.b`.
Value nest(const std::vector<std::string>& parts, Value value, const Place& place) {
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    value.key = *part;
    value.place = place;
    Value map = empty_map(place);
    map.children.push_back(std::move(value));
    value = std::move(map);
  }
  return value;
}

/// How many leading parts of a key path lead to a list, such as the `moe.balance`
/// of `moe.balance.coef` when a file gives several losses; 0 if none do.
size_t parts_to_a_list(const Value& root, const std::vector<std::string>& parts) {
  const Value* value = &root;
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    value = value->find(parts[i]);
    if (value == nullptr) return 0;
    if (value->kind == Value::Kind::kList) return i + 1;
  }
  return 0;
}

void apply_set(Document& document, const std::string& set) {
  const Place place{"--set " + set, 0};
  const size_t equals = set.find('=');
  const std::vector<std::string> parts = split_path(set.substr(0, equals));
  const bool has_gap = std::find(parts.begin(), parts.end(), "") != parts.end();
  if (equals == std::string::npos || has_gap) {
    document.issues.push_back({place, "must be key.path=value, such as train.steps=10"});
    return;
  }
  if (const size_t leading = parts_to_a_list(document.root, parts)) {
    const std::string list = join(std::vector(parts.begin(), parts.begin() + leading), ".");
    document.issues.push_back({place, "`" + list +
                                          "` is a list in the config; give a whole one: '" + list +
                                          "=[{...}, {...}]'"});
    return;
  }
  Document value = parse_document(set.substr(equals + 1), place.origin, Lines::kNone);
  document.issues.insert(document.issues.end(), value.issues.begin(), value.issues.end());
  document.complete = document.complete && value.complete;
  if (value.complete) overlay(document.root, nest(parts, std::move(value.root), place));
}

void refuse_extends(Document& document, const std::string& where) {
  if (const std::optional<Value> extends = take_extends(document)) {
    document.issues.push_back({extends->place, "`extends` works in files only, not in " + where});
  }
}

}  // namespace

Document read_sources(const std::string& path, const std::vector<std::string>& sets) {
  Document document = ChainReader().read(path);
  for (const std::string& set : sets) apply_set(document, set);
  refuse_extends(document, "a --set");
  return document;
}

Document read_text(const std::string& text, const std::string& origin) {
  Document document = parse_document(text, origin, Lines::kNumbered);
  require_map(document, {origin, 1});
  refuse_extends(document, "a resolved config");
  return document;
}

}  // namespace switchyard
