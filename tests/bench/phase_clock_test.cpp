#include "bench/phase_clock.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <chrono>
#include <map>
#include <thread>

#include "ops/region.h"

namespace switchyard {
namespace {

using at::Tensor;

void pass_milliseconds(int count) { std::this_thread::sleep_for(std::chrono::milliseconds(count)); }

std::map<std::string, double> seconds_of(const PhaseClock& clock) {
  return {clock.seconds().begin(), clock.seconds().end()};
}

TEST(PhaseClock, ARegionInsideAnotherHasItsTimeToItself) {
  PhaseClock clock;
  const auto start = std::chrono::steady_clock::now();
  clock.start_step();
  {
    Region part("outer");
    {
      const Region inner("inner");
      pass_milliseconds(40);
    }
    part.next("after");
    pass_milliseconds(5);
  }
  clock.finish();
  const double all =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const auto seconds = seconds_of(clock);
  EXPECT_GE(seconds.at("inner"), 0.040);
  EXPECT_GE(seconds.at("after"), 0.005);
  EXPECT_LE(seconds.at("outer"), all - 0.045);
  double sum = 0;
  for (const auto& [part, s] : seconds) sum += s;
  EXPECT_LE(sum, all);
  EXPECT_GE(sum, 0.045);
}

TEST(PhaseClock, BackwardGoesToThePartThatMadeTheNode) {
  const Tensor x = at::ones({8}).set_requires_grad(true);
  PhaseClock clock;
  clock.start_step();
  Tensor y;
  {
    Region part("first");
    y = x.exp();
    {
      const Region inner("inner");
      y = y.sin();
    }
    part.next("second");
    y = y.sum();
  }
  y = y * 2;  // in no region
  torch::autograd::backward({y}, {});
  clock.finish();
  const auto seconds = seconds_of(clock);
  for (const char* part : {"first", "inner", "second", "backward of first", "backward of inner",
                           "backward of second", "backward", "other"}) {
    EXPECT_TRUE(seconds.contains(part)) << part;
  }
  EXPECT_EQ(seconds.size(), 8U);
}

TEST(PhaseClock, WhatDidNotComputeInBackwardHasNoTimeThere) {
  const Tensor x = at::ones({8}).set_requires_grad(true);
  PhaseClock clock;
  clock.start_step();
  Tensor y;
  {
    Region part("used");
    y = x.exp();
    part.next("unused");
    x.cos();
  }
  torch::autograd::backward({y}, {at::ones({8})});
  clock.finish();
  EXPECT_TRUE(seconds_of(clock).contains("backward of used"));
  EXPECT_FALSE(seconds_of(clock).contains("backward of unused"));
}

TEST(PhaseClock, NobodyListensAfterwards) {
  PhaseClock clock;
  clock.start_step();
  clock.finish();
  { const Region part("later"); }
  EXPECT_FALSE(seconds_of(clock).contains("later"));
  PhaseClock next;  // one at a time, but one after another
  EXPECT_THROW(PhaseClock(), c10::Error);
}

}  // namespace
}  // namespace switchyard
