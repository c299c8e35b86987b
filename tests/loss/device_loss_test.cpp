#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "loss/linear_cross_entropy.h"
#include "support/evaluate.h"
#include "support/host_device.h"
#include "support/loss_cases.h"

// Losses of a device's tensors, against the host's in float64.

namespace switchyard {
namespace {

TEST(DeviceLossTest, GiveWhatTheHostGives) {
  for (const OpCase& c : loss_cases()) {
    const auto exact = evaluate(c.f, c.inputs, at::kCPU, at::kDouble);
    EXPECT_TRUE(all_near(evaluate(c.f, c.inputs, host_device(), at::kDouble), exact, 1e-6))
        << c.name;
    EXPECT_TRUE(all_near(evaluate(c.f, c.inputs, host_device(), at::kFloat), exact, 1e-4))
        << c.name;
  }
}

TEST(DeviceLossTest, CrossEntropyInBfloat16) {
  for (const OpCase& c : loss_cases()) {
    if (c.name.find("cross_entropy") == std::string::npos) continue;
    const auto exact = evaluate(c.f, c.inputs, at::kCPU, at::kDouble);
    EXPECT_TRUE(all_near(evaluate(c.f, c.inputs, host_device(), at::kBFloat16), exact, 2e-2))
        << c.name;
  }
}

TEST(DeviceLossTest, TheHostWaitsForNothing) {
  for (const OpCase& c : loss_cases()) {
    const int64_t before = host_device_traffic().to_host;
    const size_t results = evaluate(c.f, c.inputs, host_device(), at::kFloat).size();
    EXPECT_EQ(host_device_traffic().to_host - before, static_cast<int64_t>(results)) << c.name;
  }
}

TEST(DeviceLossTest, ATargetThatIsNotInTheVocabularyEndsTheDevicesWork) {
  const at::Tensor hidden = at::zeros({2, 4}).to(host_device()),
                   head = at::zeros({5, 4}).to(host_device());
  for (const int64_t wrong : {-1, 5}) {
    const at::Tensor targets = at::full({2}, wrong, at::kLong).to(host_device());
    EXPECT_THROW(linear_cross_entropy(hidden, head, targets), c10::Error);
  }
}

}  // namespace
}  // namespace switchyard
