#pragma once

#include <cstddef>

namespace switchyard {

/// What operator new has given out in this process since restart_allocations: linking
/// allocations.cpp replaces it. Not for several threads.
struct Allocations {
  size_t largest = 0;  // bytes of the largest single one
  size_t peak = 0;     // bytes alive at once, above those at the start
};

void restart_allocations();
Allocations allocations();

}  // namespace switchyard
