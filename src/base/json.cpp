#include "base/json.h"

#include <charconv>
#include <cmath>
#include <functional>
#include <set>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"

namespace switchyard {
namespace {

/// Watches the parser for what nlohmann::json lets pass.
class Strictness {
 public:
  Strictness(const std::string& origin, int max_depth) : origin_(origin), max_depth_(max_depth) {}

  bool operator()(int, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    switch (event) {
      case Event::object_start:
      case Event::array_start:
        enter();
        break;
      case Event::key:
        see_key(parsed.get_ref<const std::string&>());
        break;
      case Event::object_end:
      case Event::array_end:
        keys_.pop_back();
        break;
      case Event::value:
        break;
    }
    return true;
  }

 private:
  void enter() {
    keys_.emplace_back();
    if (static_cast<int>(keys_.size()) > max_depth_) {
      throw DataError(origin_ + ": nested deeper than " + std::to_string(max_depth_));
    }
  }

  void see_key(const std::string& key) {
    if (!keys_.back().insert(key).second) {
      throw DataError(origin_ + ": the key \"" + printable(key) + "\" is given twice");
    }
  }

  const std::string& origin_;
  int max_depth_;
  std::vector<std::set<std::string>> keys_;
};

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& origin, JsonLimits limits) {
  if (text.size() > limits.bytes) {
    throw DataError(origin + ": " + std::to_string(text.size()) + " bytes of JSON, more than " +
                    std::to_string(limits.bytes));
  }
  Strictness strictness(origin, limits.depth);
  try {
    return nlohmann::json::parse(text.begin(), text.end(), std::ref(strictness));
  } catch (const nlohmann::json::exception& error) {
    throw DataError(origin + ": not valid JSON: " + printable(error.what()));
  }
}

nlohmann::json read_json_file(const std::string& path, JsonLimits limits) {
  return parse_json(read_file(path, limits.bytes), path, limits);
}

JsonFields::JsonFields(const nlohmann::json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object.is_object()) throw DataError(where_ + ": not a JSON object");
}

std::string JsonFields::named(const std::string& key) const {
  return where_ + ": \"" + printable(key) + "\"";
}

const nlohmann::json& JsonFields::take(const std::string& key) {
  const auto found = object_.find(key);
  if (found == object_.end()) throw DataError(named(key) + " is missing");
  taken_.insert(key);
  return *found;
}

const nlohmann::json& JsonFields::object(const std::string& key) {
  const nlohmann::json& value = take(key);
  if (!value.is_object()) throw DataError(named(key) + " is not an object");
  return value;
}

const nlohmann::json& JsonFields::array(const std::string& key) {
  const nlohmann::json& value = take(key);
  if (!value.is_array()) throw DataError(named(key) + " is not an array");
  return value;
}

const std::string& JsonFields::text(const std::string& key) {
  const nlohmann::json& value = take(key);
  if (!value.is_string()) throw DataError(named(key) + " is not a string");
  return value.get_ref<const std::string&>();
}

uint64_t JsonFields::number(const std::string& key) { return as_number(take(key), named(key)); }

int64_t JsonFields::count(const std::string& key) { return as_count(take(key), named(key)); }

void JsonFields::finish() const {
  for (const auto& [key, value] : object_.items()) {
    if (!taken_.contains(key)) throw DataError(named(key) + " is not known here");
  }
}

uint64_t JsonFields::as_number(const nlohmann::json& value, const std::string& what) {
  if (!value.is_number_unsigned()) {
    throw DataError(what + " is not an unsigned integer of 64 bits");
  }
  return value.get<uint64_t>();
}

int64_t JsonFields::as_count(const nlohmann::json& value, const std::string& what) {
  const uint64_t number = as_number(value, what);
  if (number > static_cast<uint64_t>(INT64_MAX)) throw DataError(what + " is too large");
  return static_cast<int64_t>(number);
}

std::string number_text(double value) {
  if (!std::isfinite(value)) return "null";
  char buffer[32];
  const std::to_chars_result end = std::to_chars(buffer, buffer + sizeof(buffer), value);
  std::string text(buffer, end.ptr);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

}  // namespace switchyard
