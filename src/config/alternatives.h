#pragma once

#include <cstdint>
#include <string>
#include <vector>

// The numbers that an error message proposes instead.

namespace switchyard {

/// "2", "2 or 4", "1, 2 or 4".
std::string alternatives(const std::vector<int64_t>& numbers);

/// Divisors of n: the `count` nearest to `wanted`, ascending.
std::vector<int64_t> divisors_near(int64_t n, int64_t wanted, size_t count = 4);

/// The multiples of n next to `wanted`, below and above.
std::vector<int64_t> multiples_near(int64_t n, int64_t wanted);

}  // namespace switchyard
