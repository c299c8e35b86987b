#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace switchyard {

/// More positions than any model has.
inline constexpr int64_t kMaxHfPositions = INT32_MAX;

/// The keys of a config.json (or of an object in it) as transformers sees them: one that
/// is left out has the family's default, one that is null has no value. Every failure is
/// a DataError: ORIGIN: "KEY" is VALUE: what is wrong; what can be done.
///
/// The objects outlive the reader.
class HfConfigReader {
 public:
  /// `prefix` goes before the keys in messages: "rope_scaling.".
  HfConfigReader(const nlohmann::json& config, const nlohmann::json& defaults, std::string origin,
                 std::string prefix = "");

  /// The value, or null for a key without one.
  const nlohmann::json* find(const std::string& key) const;
  /// The keys of an object in this one; no defaults. Refuses whatever is no object.
  HfConfigReader inside(const std::string& key) const;
  /// Whether the file itself gives the key a value.
  bool gives(const std::string& key) const;

  /// A whole number in [least, most].
  int64_t count(const std::string& key, int64_t least, int64_t most) const;
  /// A finite number above `bound`; `otherwise` without a value.
  double above(const std::string& key, double bound, double otherwise) const;
  double above(const std::string& key, double bound) const;
  bool flag(const std::string& key, bool otherwise) const;
  std::string word(const std::string& key, const std::string& otherwise) const;

  [[noreturn]] void refuse(const std::string& key, const std::string& why) const;

 private:
  const nlohmann::json& config_;
  const nlohmann::json& defaults_;
  std::string origin_, prefix_;
};

}  // namespace switchyard
