#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/place.h"

namespace switchyard {

/// A YAML value as plain data that knows where it was written. Nothing is
/// interpreted yet: `8`, `"8"` and `auto` are scalars.
struct Value {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  Place place;                  // of the key in a mapping, else of the value
  std::string key;              // in a mapping; empty in a list
  std::string scalar;           // kScalar
  bool quoted = false;          // kScalar
  std::vector<Value> children;  // kList, kMap: in the order written

  const Value* find(std::string_view name) const;
  Value* find(std::string_view name);
};

/// A mapping without keys: the config in which everything is a default.
Value empty_map(const Place& place);

/// What a message calls a value: `1.5`, the quoted text "8", null, a list, a mapping.
std::string describe(const Value& value);

/// Whether lines mean anything: in a file yes, in the value of a `--set` no.
enum class Lines { kNumbered, kNone };

/// A YAML text that was read, as far as it could be.
struct Document {
  Value root;  // null for a text without content
  std::vector<Issue> issues;
  bool complete = true;  // false: the text could not be read to its end, root is empty
};

/// Reads a YAML text. Broken syntax, a key given twice, a second document, control
/// characters and invalid UTF-8 in a value, more than 1 MiB and nesting deeper than 16 levels are
/// issues. Aliases are expanded, within limits.
Document parse_document(const std::string& text, const std::string& origin, Lines lines);

/// Lays `over` upon `base`: mappings merge key by key, all else replaces. An
/// empty section (`moe:` and nothing below it) changes nothing.
void overlay(Value& base, Value over);

}  // namespace switchyard
