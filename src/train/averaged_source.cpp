#include "train/averaged_source.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/error.h"

namespace switchyard {
namespace {

using at::Tensor;

constexpr const char* kMaster = ".master";

std::string weight_of(const std::string& name) {
  return name.ends_with(kMaster) ? name.substr(0, name.size() - std::strlen(kMaster)) : name;
}

}  // namespace

AveragedSource::AveragedSource(std::vector<TensorSource*> branches, std::vector<double> weights)
    : branches_(std::move(branches)), weights_(std::move(weights)) {
  TORCH_CHECK(!branches_.empty() && branches_.size() == weights_.size(),
              "AveragedSource: ", branches_.size(), " branches, ", weights_.size(), " weights");
  const double sum = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  for (double& weight : weights_) weight /= sum;
  for (const TensorInfo& tensor : branches_.front()->tensors()) {
    if (is_weight(tensor)) add(tensor);
  }
  std::ranges::sort(tensors_, {}, &TensorInfo::name);
}

void AveragedSource::add(const TensorInfo& first) {
  bool is_precise = branches_.front()->has(first.name + kMaster);
  for (TensorSource* branch : branches_) {
    if (branch->at(first.name).shape != first.shape) {
      throw DataError(branch->path() + ": \"" + first.name + "\" has another shape than in " +
                      path());
    }
    is_precise &= branch->at(best_name(*branch, first.name)).dtype == "F32";
  }
  tensors_.push_back(first);
  if (is_precise) tensors_.push_back({first.name + kMaster, first.shape, "F32", first.kind});
}

void AveragedSource::read(const TensorInfo& tensor, Interval range, void* out) {
  const std::string name = weight_of(tensor.name);
  const bool from_master = has(name + kMaster);
  Tensor sum = at::zeros({range.size()}, at::kDouble);
  Tensor values = at::empty({range.size()}, at::kFloat);
  for (size_t i = 0; i < branches_.size(); ++i) {
    if (weights_[i] == 0) continue;
    branches_[i]->read_into(best_name(*branches_[i], name), range, values);
    sum.add_(values, weights_[i]);
  }
  Tensor mean = sum.to(at::kFloat);
  if (!from_master || tensor.name == name) mean = mean.to(scalar_type(tensor.dtype));
  std::memcpy(out, mean.data_ptr(), mean.nbytes());
}

}  // namespace switchyard
