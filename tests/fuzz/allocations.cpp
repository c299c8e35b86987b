#include "fuzz/allocations.h"

#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace switchyard {
namespace {

int64_t alive = 0, start = 0, peak = 0;
size_t largest = 0;

void* allocate(size_t bytes) {
  void* block = std::malloc(std::max<size_t>(bytes, 1));
  if (block == nullptr) throw std::bad_alloc();
  largest = std::max(largest, bytes);
  alive += static_cast<int64_t>(malloc_usable_size(block));
  peak = std::max(peak, alive);
  return block;
}

void release(void* block) {
  if (block == nullptr) return;
  alive -= static_cast<int64_t>(malloc_usable_size(block));
  std::free(block);
}

}  // namespace

void restart_allocations() {
  start = alive;
  peak = alive;
  largest = 0;
}

Allocations allocations() { return {largest, static_cast<size_t>(peak - start)}; }

}  // namespace switchyard

void* operator new(size_t bytes) { return switchyard::allocate(bytes); }
void* operator new[](size_t bytes) { return switchyard::allocate(bytes); }
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  try {
    return switchyard::allocate(bytes);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void* operator new[](size_t bytes, const std::nothrow_t& tag) noexcept {
  return ::operator new(bytes, tag);
}
void operator delete(void* block) noexcept { switchyard::release(block); }
void operator delete[](void* block) noexcept { switchyard::release(block); }
void operator delete(void* block, const std::nothrow_t&) noexcept { switchyard::release(block); }
void operator delete[](void* block, const std::nothrow_t&) noexcept { switchyard::release(block); }
void operator delete(void* block, size_t) noexcept { switchyard::release(block); }
void operator delete[](void* block, size_t) noexcept { switchyard::release(block); }
