#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

/// How many letters must be added, removed, changed or swapped with their
/// neighbour to turn one word into the other; case does not count, nor does
/// `-` for `_`. A word that begins with the other (4 letters or more) counts
/// at most 2: `optimizer` is near `optim`.
size_t edit_distance(std::string_view a, std::string_view b);

/// How far apart two words may be for one to be a mistyping of the other.
size_t typing_slack(std::string_view word);

/// The candidate nearest to `word`, the first of equals; "" when none is near
/// enough to be meant.
std::string_view nearest(std::string_view word, const std::vector<std::string_view>& candidates);

}  // namespace switchyard
