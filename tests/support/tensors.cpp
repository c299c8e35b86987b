#include "support/tensors.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <sstream>

#include "base/random.h"

namespace switchyard {

using at::Tensor;

Tensor normal_tensor(std::vector<int64_t> shape, std::string_view name, at::ScalarType dtype) {
  const RandomStream stream(/*seed=*/1, name);
  Tensor x = at::empty(shape, at::kFloat);
  for (int64_t i = 0; i < x.numel(); ++i) x.data_ptr<float>()[i] = stream.normal(i);
  return x.to(dtype);
}

testing::AssertionResult same(const Tensor& actual, const Tensor& expected) {
  if (actual.dtype() == expected.dtype() && at::equal(actual, expected)) {
    return testing::AssertionSuccess();
  }
  std::ostringstream text;
  text << actual << " in place of " << expected;
  return testing::AssertionFailure() << text.str();
}

testing::AssertionResult near(const Tensor& actual, const Tensor& expected, double tolerance) {
  if (actual.dtype() != expected.dtype() || actual.sizes() != expected.sizes()) {
    std::ostringstream text;
    text << actual.sizes() << " " << actual.dtype() << " in place of " << expected.sizes() << " "
         << expected.dtype();
    return testing::AssertionFailure() << text.str();
  }
  if (actual.numel() == 0) return testing::AssertionSuccess();
  const Tensor a = actual.detach().to(at::kDouble).flatten();
  const Tensor b = expected.detach().to(at::kDouble).flatten();
  const Tensor error = (a - b).abs() / b.abs().clamp_min(1);
  const Tensor worst = error.nan_to_num(/*nan=*/1e300).argmax();
  const double largest = error[worst.item<int64_t>()].item<double>();
  if (largest <= tolerance) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << "element " << worst.item<int64_t>() << " is " << a[worst.item<int64_t>()].item<double>()
         << " in place of " << b[worst.item<int64_t>()].item<double>() << ", error " << largest;
}

std::vector<Tensor> gradients_of(const TensorFunction& f, std::vector<Tensor> inputs,
                                 const Tensor& weight) {
  for (Tensor& x : inputs) x = x.detach().clone().set_requires_grad(true);
  return torch::autograd::grad({f(inputs)}, inputs, {weight});
}

testing::AssertionResult gradients_match(const TensorFunction& f, std::vector<Tensor> inputs,
                                         double tolerance) {
  constexpr double kStep = 1e-5;
  for (Tensor& x : inputs) x = x.detach().clone(at::MemoryFormat::Contiguous);
  // A weight per output element, so that no two errors cancel.
  const Tensor weight = normal_tensor(f(inputs).sizes().vec(), "weight of the outputs");
  const auto loss = [&] { return (f(inputs) * weight).sum().item<double>(); };
  const std::vector<Tensor> gradients = gradients_of(f, inputs, weight);
  for (size_t n = 0; n < inputs.size(); ++n) {
    Tensor differences = at::empty_like(inputs[n]);
    double* x = inputs[n].data_ptr<double>();
    for (int64_t i = 0; i < inputs[n].numel(); ++i) {
      const double at = x[i];
      x[i] = at + kStep;
      const double above = loss();
      x[i] = at - kStep;
      const double below = loss();
      x[i] = at;
      differences.data_ptr<double>()[i] = (above - below) / (2 * kStep);
    }
    const testing::AssertionResult result = near(gradients[n], differences, tolerance);
    if (!result) {
      return testing::AssertionFailure() << "gradient of input " << n << ": " << result.message();
    }
  }
  return testing::AssertionSuccess();
}

}  // namespace switchyard
