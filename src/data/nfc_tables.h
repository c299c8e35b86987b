#pragma once

#include <array>
#include <cstdint>

namespace switchyard {

/// Characters of the same non-zero canonical combining class.
struct CombiningRange {
  uint32_t first, last, combining_class;
};

/// A character that is canonically one other (second is 0) or two; whether composing
/// gives it back. Hangul syllables are not in the table: they follow a formula.
struct Decomposition {
  uint32_t character, first, second, composes;
};

// Both in ascending order.
extern const std::array<CombiningRange, 382> kCombiningRanges;
extern const std::array<Decomposition, 2061> kDecompositions;

}  // namespace switchyard
