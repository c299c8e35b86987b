#include "config/nearest.h"

#include <algorithm>
#include <cctype>

namespace switchyard {
namespace {

std::string folded(std::string_view word) {
  std::string result(word);
  for (char& c : result) {
    c = c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return result;
}

size_t typing_distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> best(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) best[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) best[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t changed = best[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      best[i][j] = std::min({best[i - 1][j] + 1, best[i][j - 1] + 1, changed});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) best[i][j] = std::min(best[i][j], best[i - 2][j - 2] + 1);
    }
  }
  return best[a.size()][b.size()];
}

}  // namespace

size_t edit_distance(std::string_view a, std::string_view b) {
  constexpr size_t kLongest = 64;  // a longer word is no mistyped key
  const std::string x = folded(a.substr(0, kLongest));
  const std::string y = folded(b.substr(0, kLongest));
  const size_t distance = typing_distance(x, y);
  const size_t shared = std::min(x.size(), y.size());
  const bool begins = shared >= 4 && x.compare(0, shared, y, 0, shared) == 0;
  return begins ? std::min<size_t>(distance, 2) : distance;
}

size_t typing_slack(std::string_view word) { return std::clamp<size_t>(word.size() / 3, 1, 5); }

std::string_view nearest(std::string_view word, const std::vector<std::string_view>& candidates) {
  std::string_view found;
  size_t smallest = typing_slack(word) + 1;
  for (const std::string_view candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < smallest) {
      smallest = distance;
      found = candidate;
    }
  }
  return found;
}

}  // namespace switchyard
