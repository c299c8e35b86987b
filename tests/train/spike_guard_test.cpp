#include "train/spike_guard.h"

#include <gtest/gtest.h>

#include <cmath>

namespace switchyard {
namespace {

SpikeConfig config_of(int64_t window, double sigmas) {
  SpikeConfig config;
  config.action = "skip";
  config.window = window;
  config.sigmas = sigmas;
  return config;
}

/// A guard that has seen losses of 2 and 4 in turn and norms of 1: mean 3, deviation
/// sqrt(n / (n - 1)).
SpikeGuard guard_after(int steps, const SpikeConfig& config) {
  SpikeGuard guard(config);
  for (int i = 0; i < steps; ++i) EXPECT_FALSE(guard.is_spike(i % 2 == 0 ? 2.0 : 4.0, 1.0));
  return guard;
}

TEST(SpikeGuardTest, TheLimitIsThatManyDeviationsAboveTheMean) {
  const double deviation = std::sqrt(16.0 / 15.0);
  SpikeGuard below = guard_after(16, config_of(16, 6));
  EXPECT_FALSE(below.is_spike(3 + 5.99 * deviation, 1.0));
  SpikeGuard above = guard_after(16, config_of(16, 6));
  EXPECT_TRUE(above.is_spike(3 + 6.01 * deviation, 1.0));
}

TEST(SpikeGuardTest, ANormAloneIsASpike) {
  SpikeGuard guard = guard_after(16, config_of(16, 6));
  EXPECT_TRUE(guard.is_spike(3.0, 1.5));
}

TEST(SpikeGuardTest, HalfOfTheWindowMustBeThere) {
  SpikeGuard early = guard_after(7, config_of(16, 6));
  EXPECT_FALSE(early.is_spike(1e6, 1e6));
  SpikeGuard enough = guard_after(8, config_of(16, 6));
  EXPECT_TRUE(enough.is_spike(1e6, 1e6));
}

TEST(SpikeGuardTest, ALevelThatStaysIsOneSpike) {
  SpikeGuard guard = guard_after(16, config_of(16, 3));
  EXPECT_TRUE(guard.is_spike(9, 1.0));
  int spikes = 0;
  for (int i = 0; i < 32; ++i) spikes += guard.is_spike(9 + 0.1 * (i % 2), 1.0);
  EXPECT_LT(spikes, 3);
  EXPECT_EQ(guard.losses().size(), 16u);
}

TEST(SpikeGuardTest, RestoredItDecidesTheSame) {
  SpikeGuard guard = guard_after(12, config_of(16, 6));
  SpikeGuard restored(config_of(16, 6));
  restored.restore(guard.losses(), guard.norms());
  for (const double loss : {3.0, 20.0, 4.0, 9.5}) {
    EXPECT_EQ(guard.is_spike(loss, 1.0), restored.is_spike(loss, 1.0)) << loss;
  }
}

TEST(SpikeGuardTest, NoneNeverFinds) {
  SpikeConfig config = config_of(16, 6);
  config.action = "none";
  SpikeGuard guard(config);
  for (int i = 0; i < 40; ++i) EXPECT_FALSE(guard.is_spike(i == 30 ? 1e9 : 1, 1));
  EXPECT_TRUE(guard.losses().empty());
}

}  // namespace
}  // namespace switchyard
