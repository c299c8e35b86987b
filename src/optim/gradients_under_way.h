#pragma once

#include <ATen/core/Tensor.h>

#include <deque>
#include <memory>

#include "distributed/communicator.h"

namespace switchyard {

/// Gradients that backward has made, on their way to the ranks that own them (ZeRO stage 2): at
/// most `limit` at once, each of which is there whole until then.
class GradientsUnderWay {
 public:
  explicit GradientsUnderWay(size_t limit) : limit_(limit) {}

  /// When `call` is over, `arrived`, which it fills, is to be added to `sum`. Of more than `limit`
  /// waits for the first.
  void add(std::unique_ptr<UnderWay> call, const at::Tensor& arrived, const at::Tensor& sum);

  /// Waits for all.
  void finish();

 private:
  struct Gradient {
    std::unique_ptr<UnderWay> call;
    at::Tensor arrived, sum;
  };

  void finish_first();

  size_t limit_;
  std::deque<Gradient> gradients_;
};

}  // namespace switchyard
