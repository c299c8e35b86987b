#include "optim/gradients_under_way.h"

#include <ATen/ATen.h>

namespace switchyard {

void GradientsUnderWay::add(std::unique_ptr<UnderWay> call, const at::Tensor& arrived,
                            const at::Tensor& sum) {
  gradients_.push_back({std::move(call), arrived, sum});
  if (gradients_.size() > limit_) finish_first();
}

void GradientsUnderWay::finish() {
  while (!gradients_.empty()) finish_first();
}

void GradientsUnderWay::finish_first() {
  const Gradient& first = gradients_.front();
  first.call->wait();
  if (first.sum.numel() > 0) first.sum.add_(first.arrived);
  gradients_.pop_front();
}

}  // namespace switchyard
