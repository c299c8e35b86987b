#include "optim/gradient_sharding.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace switchyard {
namespace {

class ReduceOnArrival final : public torch::autograd::PostAccumulateGradHook {
 public:
  ReduceOnArrival(Interval range, ParameterStore::Buffer& buffer) : buffer_(buffer) {
    const int64_t piece = buffer.shard.size();
    for (int64_t r = 0; r < buffer.group->size(); ++r) {
      counts_.push_back(intersect(range, {r * piece, (r + 1) * piece}).size());
    }
    mine_ = intersect(range, buffer.gradient);
  }

  void operator()(const at::Tensor& leaf) override {
    at::Tensor gradient = leaf.grad().to(at::kFloat).contiguous();
    leaf.mutable_grad().reset();
    at::Tensor own = at::empty({mine_.size()}, gradient.options());
    buffer_.group->reduce_scatter_uneven(gradient, counts_, own, purpose());
    if (mine_.empty()) return;
    buffer_.gradients.narrow(0, mine_.begin - buffer_.gradient.begin, mine_.size()).add_(own);
  }

 private:
  const char* purpose() const {
    return buffer_.kind == ParameterKind::kDense ? "gradient of a dense parameter"
                                                 : "gradient of experts";
  }

  ParameterStore::Buffer& buffer_;
  std::vector<int64_t> counts_;  // elements of the leaf that each rank owns
  Interval mine_;                // in the buffer
};

}  // namespace

void shard_gradient_on_arrival(const at::Tensor& leaf, Interval range,
                               ParameterStore::Buffer& buffer) {
  torch::autograd::impl::set_post_acc_grad_hooks(leaf,
                                                 std::make_unique<ReduceOnArrival>(range, buffer));
}

}  // namespace switchyard
