#include "hf/config_reader.h"

#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"

namespace switchyard {
namespace {

constexpr size_t kShownBytes = 80;

std::string shown(const nlohmann::json& value) {
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > kShownBytes) text = text.substr(0, kShownBytes) + "...";
  return printable(text);
}

}  // namespace

HfConfigReader::HfConfigReader(const nlohmann::json& config, const nlohmann::json& defaults,
                               std::string origin, std::string prefix)
    : config_(config),
      defaults_(defaults),
      origin_(std::move(origin)),
      prefix_(std::move(prefix)) {}

const nlohmann::json* HfConfigReader::find(const std::string& key) const {
  for (const nlohmann::json* object : {&config_, &defaults_}) {
    const auto found = object->find(key);
    if (found != object->end()) return found->is_null() ? nullptr : &*found;
  }
  return nullptr;
}

HfConfigReader HfConfigReader::inside(const std::string& key) const {
  static const nlohmann::json none = nlohmann::json::object();
  const nlohmann::json* value = find(key);
  if (value != nullptr && !value->is_object()) refuse(key, "it must be an object");
  return {value == nullptr ? none : *value, none, origin_, prefix_ + key + "."};
}

bool HfConfigReader::gives(const std::string& key) const {
  const auto found = config_.find(key);
  return found != config_.end() && !found->is_null();
}

int64_t HfConfigReader::count(const std::string& key, int64_t least, int64_t most) const {
  const nlohmann::json* value = find(key);
  const bool whole = value != nullptr && value->is_number_integer();
  const bool huge = whole && value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX;
  if (whole && !huge) {
    const auto number = value->get<int64_t>();
    if (number >= least && number <= most) return number;
  }
  refuse(key,
         "it must be a whole number from " + std::to_string(least) + " to " + std::to_string(most));
}

double HfConfigReader::above(const std::string& key, double bound) const {
  const nlohmann::json* value = find(key);
  if (value != nullptr && value->is_number()) {
    const auto number = value->get<double>();
    if (std::isfinite(number) && number > bound) return number;
  }
  refuse(key, "it must be a number above " + number_text(bound));
}

double HfConfigReader::above(const std::string& key, double bound, double otherwise) const {
  return find(key) == nullptr ? otherwise : above(key, bound);
}

bool HfConfigReader::flag(const std::string& key, bool otherwise) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) refuse(key, "it must be true or false");
  return value->get<bool>();
}

std::string HfConfigReader::word(const std::string& key, const std::string& otherwise) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_string()) refuse(key, "it must be a word");
  return value->get<std::string>();
}

void HfConfigReader::refuse(const std::string& key, const std::string& why) const {
  const nlohmann::json* value = find(key);
  throw DataError(origin_ + ": \"" + prefix_ + key + "\" is " +
                  (value == nullptr ? "not given" : shown(*value)) + ": " + why);
}

}  // namespace switchyard
