#include "support/peak_bytes.h"

#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <atomic>
#include <memory>

namespace switchyard {

/// The usual allocator, with a count. Allocations keep a pointer to it, so it is never
/// destroyed.
class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    auto* block = new Block{c10::GetDefaultCPUAllocator()->allocate(bytes), bytes, this};
    const int64_t alive = alive_ += static_cast<int64_t>(bytes);
    int64_t peak = peak_;
    while (alive > peak && !peak_.compare_exchange_weak(peak, alive)) {
    }
    return {block->data.get(), block, &release, at::Device(at::kCPU)};
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  void restart() {
    start_ = alive_.load();
    peak_ = start_.load();
  }
  int64_t rise() const { return peak_ - start_; }
  int64_t alive() const { return alive_ - start_; }

 private:
  struct Block {
    c10::DataPtr data;
    size_t bytes;
    CountingAllocator* counter;
  };
  static void release(void* context) {
    const std::unique_ptr<Block> block(static_cast<Block*>(context));
    block->counter->alive_ -= static_cast<int64_t>(block->bytes);
  }

  std::atomic<int64_t> alive_ = 0, peak_ = 0, start_ = 0;
};

PeakBytes::PeakBytes() {
  static auto* counter = new CountingAllocator;
  counter_ = counter;
  c10::SetCPUAllocator(counter_);
  restart();
}
PeakBytes::~PeakBytes() { c10::SetCPUAllocator(c10::GetDefaultCPUAllocator()); }

void PeakBytes::restart() { counter_->restart(); }
int64_t PeakBytes::rise() const { return counter_->rise(); }
int64_t PeakBytes::alive() const { return counter_->alive(); }

}  // namespace switchyard
