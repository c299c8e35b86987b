#include "config/reader.h"

#include <algorithm>

#include "config/fields.h"
#include "config/join.h"
#include "config/keys.h"
#include "config/scalar.h"

namespace switchyard {
namespace {

/// "moe.balance" of "moe.balance[1]".
std::string without_index(const std::string& path) {
  return path.ends_with(']') ? path.substr(0, path.rfind('[')) : path;
}

/// Scalars that YAML readers elsewhere take and we do not, with what to write.
std::string integer_hint(const Value& value) {
  std::string digits = value.scalar;
  digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
  const std::optional<double> real = parse_real(digits);
  if (!real) return "";
  const auto whole = static_cast<int64_t>(std::clamp(*real, -9e15, 9e15));
  if (static_cast<double>(whole) != *real) return "";
  return "; write " + std::to_string(whole);
}

std::string real_hint(const Value& value) {
  std::string digits = value.scalar;
  digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
  return parse_real(digits) ? "; write " + digits : "";
}

std::string bool_hint(const Value& value) {
  std::string word = value.scalar;
  for (char& c : word) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (word == "yes" || word == "on" || word == "1" || word == "true") return "; write true";
  if (word == "no" || word == "off" || word == "0" || word == "false") return "; write false";
  return "";
}

class Reader {
 public:
  Reader(const Value& map, std::string path, Reading& reading)
      : map_(map), path_(std::move(path)), reading_(reading) {}

  template <typename T>
  void operator()(std::string_view key, T& target, const Rule& rule, std::string_view) {
    if (const Value* value = take(key)) read(join_key(path_, key), *value, rule, target);
  }

  template <typename Section>
  void section(std::string_view key, Section& target, std::string_view) {
    const Value* value = find(key);
    if (value == nullptr || value->kind == Value::Kind::kNull) return;
    read_section(join_key(path_, key), *value, target);
  }

  template <typename Item>
  void list(std::string_view key, std::vector<Item>& target, std::string_view) {
    const Value* value = take(key);
    if (value == nullptr) return;
    const std::string path = join_key(path_, key);
    if (value->kind == Value::Kind::kNull) {
      refuse(path, *value, "a mapping or a list, [] for none");
    } else if (value->kind != Value::Kind::kList) {
      target.assign(1, Item{});
      read_item(path, *value, target[0]);
    } else {
      target.assign(value->children.size(), Item{});
      for (size_t i = 0; i < target.size(); ++i) {
        read_item(item_key(path, i, target.size()), value->children[i], target[i]);
      }
    }
  }

  void layers(std::string_view key, std::string& target, std::string_view) {
    const Value* value = take(key);
    if (value == nullptr) return;
    const std::string path = join_key(path_, key);
    if (value->kind == Value::Kind::kList) {
      read_layer_list(path, *value, target);
    } else if (value->kind == Value::Kind::kScalar && !parse_integer(value->scalar)) {
      target = value->scalar;
    } else {
      refuse(path, *value, "all, none, every:N, last:N or a list such as [1, 3]");
    }
  }

  /// Called once all keys have been visited.
  void report_unknown_keys() {
    for (const Value& child : map_.children) {
      if (known_.contains(child.key)) continue;
      const Suggestion suggestion = suggest_key(without_index(path_), child.key);
      reading_.issues.push_back(
          {child.place, "unknown key `" + join_key(path_, child.key) + "`" + suggestion.text});
      if (!suggestion.meant.empty()) reading_.broken.insert(suggestion.meant);
    }
  }

 private:
  const Value* find(std::string_view key) {
    known_.insert(std::string(key));
    return map_.find(key);
  }

  const Value* take(std::string_view key) {
    const Value* value = find(key);
    if (value != nullptr) reading_.places[join_key(path_, key)] = value->place;
    return value;
  }

  void refuse(const std::string& path, const Value& value, const std::string& expected,
              const std::string& hint = "") {
    reading_.issues.push_back(
        {value.place, "`" + path + "` must be " + expected + ", got " + describe(value) + hint});
    reading_.broken.insert(path);
  }

  template <typename Section>
  void read_section(const std::string& path, const Value& value, Section& target) {
    if (value.kind != Value::Kind::kMap) {
      refuse(path, value, "a mapping");
      return;
    }
    Reader inner(value, path, reading_);
    describe(inner, target);
    inner.report_unknown_keys();
  }

  void read_item(const std::string& path, const Value& value, DataSource& target) {
    reading_.places[path] = value.place;
    if (value.kind == Value::Kind::kScalar) {
      target.path = value.scalar;
    } else if (value.kind == Value::Kind::kMap) {
      read_section(path, value, target);
    } else {
      refuse(path, value, "a folder or a list of {path, weight, name}");
    }
  }

  void read_item(const std::string& path, const Value& value, BalanceConfig& target) {
    reading_.places[path] = value.place;
    read_section(path, value, target);
  }

  void read_layer_list(const std::string& path, const Value& value, std::string& target) {
    std::vector<std::string> layers;
    for (const Value& item : value.children) {
      if (item.kind != Value::Kind::kScalar || item.quoted || !parse_integer(item.scalar)) {
        refuse(path, item, "a list of layer indices");
        return;
      }
      layers.push_back(std::to_string(*parse_integer(item.scalar)));
    }
    target = layers.empty() ? "none" : join(layers, ",");
  }

  void read(const std::string& path, const Value& value, const Rule& rule, int64_t& target) {
    const bool automatic = !rule.auto_means.empty();
    const std::string expected = automatic ? "an integer or auto" : "an integer";
    if (automatic && value.kind == Value::Kind::kScalar && value.scalar == "auto") {
      target = kAuto;
      return;
    }
    const std::optional<int64_t> number = plain(value) ? parse_integer(value.scalar) : std::nullopt;
    if (number && automatic && *number == kAuto) {
      refuse(path, value, describe_range(rule) + " or auto");
    } else if (number) {
      target = *number;
    } else {
      refuse(path, value, expected, integer_hint(value));
    }
  }

  void read(const std::string& path, const Value& value, const Rule& rule, double& target) {
    const std::string expected = rule.null_means.empty() ? "a number" : "a number or null";
    const std::optional<double> number = plain(value) ? parse_real(value.scalar) : std::nullopt;
    if (number) {
      target = *number;
    } else {
      refuse(path, value, expected, real_hint(value));
    }
  }

  void read(const std::string& path, const Value& value, const Rule&, bool& target) {
    const std::optional<bool> word = plain(value) ? parse_bool(value.scalar) : std::nullopt;
    if (word) {
      target = *word;
    } else {
      refuse(path, value, "true or false", bool_hint(value));
    }
  }

  void read(const std::string& path, const Value& value, const Rule& rule, std::string& target) {
    if (value.kind == Value::Kind::kScalar) {
      target = value.scalar;
    } else {
      refuse(path, value, rule.null_means.empty() ? "text" : "text or null");
    }
  }

  template <typename T>
  void read(const std::string& path, const Value& value, const Rule& rule,
            std::optional<T>& target) {
    if (value.kind == Value::Kind::kNull) {
      target.reset();
    } else {
      read(path, value, rule, target.emplace());
    }
  }

  template <typename T>
  void read(const std::string& path, const Value& value, const Rule& rule, std::vector<T>& target) {
    if (value.kind != Value::Kind::kList) {
      refuse(path, value, "a list");
      return;
    }
    target.assign(value.children.size(), T{});
    for (size_t i = 0; i < target.size(); ++i) {
      const std::string item = path + "[" + std::to_string(i) + "]";
      reading_.places[item] = value.children[i].place;
      read(item, value.children[i], rule, target[i]);
    }
  }

  void read(const std::string& path, const Value& value, const Rule& rule,
            std::map<std::string, double>& target) {
    if (value.kind != Value::Kind::kMap) {
      refuse(path, value, "a mapping of name patterns to numbers");
      return;
    }
    target.clear();
    for (const Value& entry : value.children) {
      reading_.places[join_key(path, entry.key)] = entry.place;
      read(join_key(path, entry.key), entry, rule, target[entry.key]);
    }
  }

  static bool plain(const Value& value) {
    return value.kind == Value::Kind::kScalar && !value.quoted;
  }

  const Value& map_;
  const std::string path_;
  Reading& reading_;
  std::set<std::string> known_;
};

}  // namespace

Reading read_config(const Value& root) {
  Reading reading;
  Reader reader(root, "", reading);
  describe(reader, reading.config);
  reader.report_unknown_keys();
  return reading;
}

}  // namespace switchyard
