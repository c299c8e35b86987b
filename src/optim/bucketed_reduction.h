#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "optim/parameter_store.h"

namespace switchyard {

/// reduce_gradients, begun while backward runs: the gradients of a bucket (ParameterStore::
/// begin_bucket) leave as soon as all of them are made, which is when backward comes to the node
/// that made the bucket's input. Forward has made the nodes of the bucket after that one, and
/// nodes run latest made first (gradient_sharding.h), so those of all later buckets are over too.
///
///   BucketedReduction reduction(store);
///   h = reduction.mark(h, bucket);  // in the forward of a step's last micro-batch
///   ...backward...
///   reduction.start_rest();         // what no mark stands before: the embedding
///   reduction.finish();
///
/// Sums are added in the order that a bucket's size gives, which on more than two ranks may not be
/// that of the whole buffer. Collective over the group of each kind, on every rank in the same
/// order: in backward, among the exchanges of tokens. At stage 2 gradients leave by themselves.
class BucketedReduction {
 public:
  /// `store` outlives it, and it the backward of what it marks.
  explicit BucketedReduction(ParameterStore& store);

  /// h itself, the input of the first leaf of `bucket`.
  at::Tensor mark(const at::Tensor& h, int64_t bucket);

  /// After backward: begins what has not begun.
  void start_rest() { start_from(0); }

  /// Waits for all, after which the store is as after reduce_gradients.
  void finish();

 private:
  class Mark;

  /// Gradients of `bucket` and later ones are made.
  void start_from(int64_t bucket);
  void start(ParameterStore::Buffer& buffer, Interval range);

  ParameterStore& store_;
  int64_t first_started_;  // bucket
  std::vector<std::unique_ptr<UnderWay>> under_way_;
};

}  // namespace switchyard
