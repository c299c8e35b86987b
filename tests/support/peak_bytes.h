#pragma once

#include <cstdint>

namespace switchyard {

class CountingAllocator;

/// Counts, while it lives, the bytes of tensors that are allocated in this process:
/// what was alive before does not count. One at a time.
class PeakBytes {
 public:
  PeakBytes();
  ~PeakBytes();
  PeakBytes(const PeakBytes&) = delete;
  PeakBytes& operator=(const PeakBytes&) = delete;

  /// Takes what is alive now for the start of a new count.
  void restart();
  /// The most bytes that were alive at once since the (re)start, above those at it.
  int64_t rise() const;
  /// Bytes alive now, above those at the (re)start.
  int64_t alive() const;

 private:
  CountingAllocator* counter_;
};

}  // namespace switchyard
