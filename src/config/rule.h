#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

// What a key takes beyond its type. Rules are written in config/fields.h only.

namespace switchyard {

/// A word that users know and that this build refuses, with the reason.
struct Refusal {
  std::string_view word;
  std::string_view why;  // follows the word: "is not built yet; use 1"
};

struct Rule {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool min_open = false;                     // above min, not equal to it
  bool max_open = false;                     // below max, not equal to it
  std::vector<std::string_view> words = {};  // allowed words; empty: any text
  std::vector<Refusal> refusals = {};
  std::string_view auto_means = {};  // not empty: `auto` is allowed, and means this
  std::string_view null_means = {};  // not empty: `null` is allowed, and means this
  std::string_view unit = {};        // what is counted or measured; empty: a plain number
  size_t length = 0;                 // of a list; 0: any

  Rule in(std::string_view name) && {
    unit = name;
    return std::move(*this);
  }
  Rule or_auto(std::string_view meaning) && {
    auto_means = meaning;
    return std::move(*this);
  }
  Rule or_null(std::string_view meaning) && {
    null_means = meaning;
    return std::move(*this);
  }
  Rule refuse(std::string_view word, std::string_view why) && {
    refusals.push_back({word, why});
    return std::move(*this);
  }
  Rule times(size_t count) && {
    length = count;
    return std::move(*this);
  }

  bool allows(double number) const {
    return (min_open ? number > min : number >= min) && (max_open ? number < max : number <= max);
  }
};

inline Rule anything() { return {}; }
inline Rule at_least(double min) { return {.min = min}; }
inline Rule above(double min) { return {.min = min, .min_open = true}; }
inline Rule between(double min, double max) { return {.min = min, .max = max}; }
inline Rule share_below(double max) {
  return {.min = 0, .max = max, .max_open = true, .unit = "share"};
}
inline Rule one_of(std::vector<std::string_view> words) { return {.words = std::move(words)}; }

/// Counts that are multiplied with each other stay below 2^31.
inline constexpr double kMaxCount = 2147483647;
inline Rule count(double min) { return between(min, kMaxCount); }

/// "at least 1", "at least 0 and below 1", "" when every number is allowed. The
/// common limit of counts goes without saying.
std::string describe_range(const Rule& rule);

/// `Section` is `Plain` or `const Plain`: one description serves readers and writers.
template <typename Section, typename Plain>
concept SectionOf = std::is_same_v<std::remove_const_t<Section>, Plain>;

}  // namespace switchyard
