#include "optim/bucketed_reduction.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "optim/gradients.h"

namespace switchyard {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class BucketedReduction::Mark : public torch::autograd::Function<Mark> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& h, BucketedReduction* reduction,
                        int64_t bucket) {
    ctx->saved_data["reduction"] = reinterpret_cast<int64_t>(reduction);
    ctx->saved_data["bucket"] = bucket;
    return h.detach();
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    reinterpret_cast<BucketedReduction*>(ctx->saved_data["reduction"].toInt())
        ->start_from(ctx->saved_data["bucket"].toInt());
    return {grads[0], Tensor(), Tensor()};
  }
};

BucketedReduction::BucketedReduction(ParameterStore& store)
    : store_(store), first_started_(store.num_buckets()) {}

Tensor BucketedReduction::mark(const Tensor& h, int64_t bucket) {
  return Mark::apply(h, this, bucket);
}

void BucketedReduction::start_from(int64_t bucket) {
  while (first_started_ > bucket) {
    --first_started_;
    for (ParameterStore::Buffer& buffer : store_.buffers()) {
      if (!buffer.shards_gradients()) start(buffer, store_.bucket(first_started_, buffer.kind));
    }
  }
}

void BucketedReduction::start(ParameterStore::Buffer& buffer, Interval range) {
  if (range.empty()) return;
  clear_frozen_gradients(store_, buffer, range);
  if (buffer.group->size() == 1) return;
  const char* purpose = reduction_purpose(buffer.kind);
  Tensor bucket = buffer.gradients.narrow(0, range.begin, range.size());
  if (!buffer.is_partitioned()) {
    under_way_.push_back(buffer.group->start_all_reduce(bucket, ReduceOp::kSum, purpose));
    return;
  }
  const Interval mine = intersect(range, buffer.shard);
  Tensor own =
      mine.empty() ? bucket.narrow(0, 0, 0) : buffer.gradients.narrow(0, mine.begin, mine.size());
  under_way_.push_back(
      buffer.group->start_reduce_scatter_uneven(bucket, buffer.owned(range), own, purpose));
}

void BucketedReduction::finish() {
  start_rest();
  for (const auto& reduction : under_way_) reduction->wait();
  under_way_.clear();
  finish_sharded_gradients(store_);
}

}  // namespace switchyard
