#include "config/alternatives.h"

#include <algorithm>
#include <cstdlib>

namespace switchyard {

std::string alternatives(const std::vector<int64_t>& numbers) {
  std::string result;
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (i > 0) result += i + 1 == numbers.size() ? " or " : ", ";
    result += std::to_string(numbers[i]);
  }
  return result;
}

std::vector<int64_t> divisors_near(int64_t n, int64_t wanted, size_t count) {
  std::vector<int64_t> divisors;
  for (int64_t d = 1; d <= n / d; ++d) {
    if (n % d != 0) continue;
    divisors.push_back(d);
    if (d != n / d) divisors.push_back(n / d);
  }
  const auto nearer = [&](int64_t a, int64_t b) {
    return std::abs(a - wanted) != std::abs(b - wanted)
               ? std::abs(a - wanted) < std::abs(b - wanted)
               : a < b;
  };
  std::sort(divisors.begin(), divisors.end(), nearer);
  divisors.resize(std::min(divisors.size(), count));
  std::sort(divisors.begin(), divisors.end());
  return divisors;
}

std::vector<int64_t> multiples_near(int64_t n, int64_t wanted) {
  const int64_t below = wanted / n * n;
  return below == 0 ? std::vector<int64_t>{n} : std::vector<int64_t>{below, below + n};
}

}  // namespace switchyard
