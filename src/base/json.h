#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>

namespace switchyard {

/// What a JSON text may cost. Checked before or while it is parsed.
struct JsonLimits {
  size_t bytes = size_t{256} << 20;
  int depth = 64;  // of nested objects and arrays
};

/// Strict JSON: a key given twice, a text that is too long or too deep, invalid
/// UTF-8 and anything behind the value are errors. Throws DataError, with
/// `origin` (a path) in front and the line and column where there is one.
nlohmann::json parse_json(std::string_view text, const std::string& origin, JsonLimits limits = {});

/// read_file and parse_json.
nlohmann::json read_json_file(const std::string& path, JsonLimits limits = {});

/// Takes an object's members one by one, each of the type that is asked for, and
/// at the end finds the ones that nobody knows. Throws DataError that says
/// `where` and which key. The object outlives this.
class JsonFields {
 public:
  JsonFields(const nlohmann::json& object, std::string where);

  bool has(const std::string& key) const { return object_.contains(key); }
  const nlohmann::json& take(const std::string& key);
  const nlohmann::json& object(const std::string& key);
  const nlohmann::json& array(const std::string& key);
  const std::string& text(const std::string& key);
  /// An integer without sign, fraction or exponent.
  uint64_t number(const std::string& key);
  /// A number that fits int64_t.
  int64_t count(const std::string& key);
  /// Throws if there is a member that was not taken.
  void finish() const;

  /// What an element of an array, called `what`, must be for `number` and `count`.
  static uint64_t as_number(const nlohmann::json& value, const std::string& what);
  static int64_t as_count(const nlohmann::json& value, const std::string& what);

 private:
  std::string named(const std::string& key) const;

  const nlohmann::json& object_;
  std::string where_;
  std::set<std::string> taken_;
};

/// The shortest decimal that reads back as the same bits; always with a point or
/// an exponent, so that -0.0 and 3.0 stay floating-point numbers. JSON has no
/// infinities: "null" for whatever is not finite.
std::string number_text(double value);

}  // namespace switchyard
