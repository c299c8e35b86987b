#include "optim/gradients_under_way.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace switchyard {
namespace {

using at::Tensor;

/// Fills `arrived` when it is waited for.
class Filling final : public UnderWay {
 public:
  Filling(Tensor arrived, double value) : arrived_(std::move(arrived)), value_(value) {}
  void wait() override { arrived_.fill_(value_); }

 private:
  Tensor arrived_;
  double value_;
};

/// What is in `sum` after each of three gradients of 1, 10 and 100, and at the end.
std::vector<double> sums(size_t limit) {
  GradientsUnderWay under_way(limit);
  const Tensor sum = at::zeros({2});
  std::vector<double> seen;
  for (const double value : {1.0, 10.0, 100.0}) {
    const Tensor arrived = at::full({2}, -1.0);
    under_way.add(std::make_unique<Filling>(arrived, value), arrived, sum);
    seen.push_back(sum[1].item<double>());
  }
  under_way.finish();
  seen.push_back(sum[1].item<double>());
  return seen;
}

TEST(GradientsUnderWayTest, AddsWhatHasArrivedInOrderAndHoldsNoMoreThanItsLimit) {
  EXPECT_EQ(sums(0), (std::vector<double>{1, 11, 111, 111}));
  EXPECT_EQ(sums(1), (std::vector<double>{0, 1, 11, 111}));
  EXPECT_EQ(sums(2), (std::vector<double>{0, 0, 1, 111}));
}

TEST(GradientsUnderWayTest, ARankThatOwnsNothingOfAGradientWaitsAllTheSame) {
  GradientsUnderWay under_way(0);
  const Tensor waited = at::zeros({1}), nothing = at::zeros({0});
  under_way.add(std::make_unique<Filling>(waited, 1), nothing, at::zeros({3}).narrow(0, 0, 0));
  EXPECT_EQ(waited.item<double>(), 1);
}

}  // namespace
}  // namespace switchyard
