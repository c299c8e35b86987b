#pragma once

#include <cstdint>
#include <vector>

namespace switchyard {

/// Which source serves which place of a run's global order of samples: a pure
/// function of the place, so a resume needs nothing but the cursor.
///
/// The weights, over their sum, become counts c_i of a cycle of L places: exactly, for
/// the smallest L <= 65536 that allows it (0.7 and 0.3 need 10), else rounded at
/// L = 65536. Inside a cycle the places are dealt by Tijdeman's rule for the chairman
/// assignment problem (Discrete Mathematics 32, 1980, pp. 323-330): place n goes, among
/// the sources that are at least 1 / (2k - 2) behind n c_i / L, to the one whose next
/// deadline is first. So, for k sources and every prefix of g places,
///
///   |places of source i - g c_i / L| <= 1 - 1 / (2k - 2) < 1,
///
/// and it is 0 after every whole cycle. Against the weights as written, rounding adds
/// less than g / 65536.
class Blend {
 public:
  struct Place {
    int32_t source;
    int64_t index;  // earlier places of the same source
  };

  /// weights: at least one, each positive. Throws ConfigError otherwise, also for a
  /// weight below 1/65536 of the sum, which would never be served.
  explicit Blend(const std::vector<double>& weights);

  /// O(1), for any place >= 0.
  Place at(int64_t place) const;

  /// The cycle: c_i per source; L is their sum.
  const std::vector<int64_t>& counts() const { return counts_; }

 private:
  void deal();

  std::vector<int64_t> counts_;
  std::vector<Place> cycle_;
};

}  // namespace switchyard
