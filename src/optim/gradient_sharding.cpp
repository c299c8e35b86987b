#include "optim/gradient_sharding.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace switchyard {
namespace {

class ReduceOnArrival final : public torch::autograd::PostAccumulateGradHook {
 public:
  ReduceOnArrival(Interval range, ParameterStore::Buffer& buffer, GradientsUnderWay& under_way)
      : buffer_(buffer),
        under_way_(under_way),
        counts_(buffer.owned(range)),
        mine_(intersect(range, buffer.gradient)) {}

  void operator()(const at::Tensor& leaf) override {
    const at::Tensor gradient = leaf.grad().to(at::kFloat).contiguous();
    leaf.mutable_grad().reset();
    at::Tensor own = at::empty({mine_.size()}, gradient.options());
    auto call = buffer_.group->start_reduce_scatter_uneven(gradient, counts_, own, purpose());
    const int64_t first = mine_.empty() ? 0 : mine_.begin - buffer_.gradient.begin;
    under_way_.add(std::move(call), own, buffer_.gradients.narrow(0, first, mine_.size()));
  }

 private:
  const char* purpose() const {
    return buffer_.kind == ParameterKind::kDense ? "gradient of a dense parameter"
                                                 : "gradient of experts";
  }

  ParameterStore::Buffer& buffer_;
  GradientsUnderWay& under_way_;
  const std::vector<int64_t> counts_;  // elements of the leaf that each rank owns
  const Interval mine_;                // in the buffer
};

}  // namespace

void shard_gradient_on_arrival(const at::Tensor& leaf, Interval range,
                               ParameterStore::Buffer& buffer, GradientsUnderWay& under_way) {
  torch::autograd::impl::set_post_acc_grad_hooks(
      leaf, std::make_unique<ReduceOnArrival>(range, buffer, under_way));
}

}  // namespace switchyard
