#pragma once

#include <string>
#include <vector>

#include "checkpoint/tensor_source.h"

namespace switchyard {

/// Several trainings of one model as one: each parameter is the weighted mean of theirs,
///
///   W = sum_i w_i W_i,  sum_i w_i = 1
///
/// as Branch-Train-Merge averages its experts (Li et al., arXiv:2208.03306). Summed in
/// float64 and rounded once, so the mean of equal weights is those weights, and weights
/// (1, 0, ...) give the first model to the bit. Each branch counts with its float32
/// master where it has one.
///
/// Tensors, shapes and dtypes are the first branch's: NAME, and NAME.master where every
/// branch knows its weights in float32; NAME is then NAME.master rounded. Moments and
/// other state are not there: those of several runs have no mean that means anything.
class AveragedSource : public TensorSource {
 public:
  /// `branches` outlive this and are of one architecture; `weights`, one for each, are not
  /// negative and not all zero, and are divided by their sum. Throws DataError when a
  /// branch lacks a tensor of the first, or has it in another shape.
  AveragedSource(std::vector<TensorSource*> branches, std::vector<double> weights);

  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  using TensorSource::read;
  void read(const TensorInfo& tensor, Interval range, void* out) override;
  const std::string& path() const override { return branches_.front()->path(); }

 private:
  void add(const TensorInfo& first);

  std::vector<TensorSource*> branches_;
  std::vector<double> weights_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace switchyard
