#include "support/evaluate.h"

#include <ATen/ATen.h>

namespace switchyard {

using at::Tensor;

std::vector<Tensor> evaluate(const TensorFunction& f, const std::vector<Tensor>& inputs,
                             c10::Device device, at::ScalarType dtype) {
  std::vector<Tensor> there;
  for (const Tensor& x : inputs) {
    Tensor copy = (x.is_floating_point() ? x.to(dtype) : x).to(device).clone();
    if (x.is_floating_point()) copy.set_requires_grad(true);
    there.push_back(copy);
  }
  const Tensor y = f(there);
  const Tensor weight = coarse_tensor(y.sizes().vec(), "weight of the outputs");
  y.backward(weight.to(y.scalar_type()).to(device));
  std::vector<Tensor> results = {y.detach()};
  for (const Tensor& x : there) {
    if (x.requires_grad()) results.push_back(x.grad());
  }
  for (Tensor& x : results) x = x.cpu().to(at::kDouble);
  return results;
}

Tensor coarse_tensor(std::vector<int64_t> shape, std::string_view name) {
  return normal_tensor(std::move(shape), name, at::kBFloat16).to(at::kDouble);
}

namespace {

template <class Compare>
testing::AssertionResult compare_all(const std::vector<Tensor>& actual,
                                     const std::vector<Tensor>& expected, const Compare& compare) {
  if (actual.size() != expected.size()) {
    return testing::AssertionFailure()
           << actual.size() << " results in place of " << expected.size();
  }
  for (size_t i = 0; i < actual.size(); ++i) {
    const testing::AssertionResult result = compare(actual[i], expected[i]);
    if (result) continue;
    return testing::AssertionFailure()
           << (i == 0 ? "the value: " : "gradient " + std::to_string(i) + ": ") << result.message();
  }
  return testing::AssertionSuccess();
}

}  // namespace

testing::AssertionResult all_near(const std::vector<Tensor>& actual,
                                  const std::vector<Tensor>& expected, double tolerance) {
  return compare_all(actual, expected,
                     [=](const Tensor& a, const Tensor& b) { return near(a, b, tolerance); });
}

testing::AssertionResult all_same(const std::vector<Tensor>& actual,
                                  const std::vector<Tensor>& expected) {
  return compare_all(actual, expected, same);
}

}  // namespace switchyard
