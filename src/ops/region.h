#pragma once

#include <ATen/record_function.h>

#include <optional>

namespace switchyard {

/// Says that this thread computes a part of a step ("attention", "experts") until the end of
/// the scope, to whoever listens (bench/phase_clock.h, LibTorch's profiler); with nobody
/// listening it costs a few nanoseconds. `name` must be a literal.
///
///   Region part("router");
///   ...
///   part.next("dispatch");  // the router's part ends here
class Region {
 public:
  explicit Region(const char* name) { next(name); }

  void next(const char* name) {
    record_.emplace(at::RecordScope::USER_SCOPE);
    if (record_->isActive()) record_->before(name);
  }

 private:
  std::optional<at::RecordFunction> record_;
};

}  // namespace switchyard
