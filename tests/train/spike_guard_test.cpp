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

bool is_spike(SpikeGuard& guard, double loss, double norm) {
  return guard.look_at(loss, norm).spike;
}

/// A guard that has seen losses of 2 and 4 in turn and norms of 1: mean 3, deviation
/// sqrt(n / (n - 1)).
SpikeGuard guard_after(int steps, const SpikeConfig& config) {
  SpikeGuard guard(config);
  for (int i = 0; i < steps; ++i) EXPECT_FALSE(is_spike(guard, i % 2 == 0 ? 2.0 : 4.0, 1.0));
  return guard;
}

TEST(SpikeGuardTest, TheLimitIsThatManyDeviationsAboveTheMean) {
  const double deviation = std::sqrt(16.0 / 15.0);
  SpikeGuard below = guard_after(16, config_of(16, 6));
  EXPECT_FALSE(is_spike(below, 3 + 5.99 * deviation, 1.0));
  SpikeGuard above = guard_after(16, config_of(16, 6));
  EXPECT_TRUE(is_spike(above, 3 + 6.01 * deviation, 1.0));
}

TEST(SpikeGuardTest, ANormAloneIsASpike) {
  SpikeGuard guard = guard_after(16, config_of(16, 6));
  EXPECT_TRUE(is_spike(guard, 3.0, 1.5));
}

TEST(SpikeGuardTest, HalfOfTheWindowMustBeThere) {
  SpikeGuard early = guard_after(7, config_of(16, 6));
  EXPECT_FALSE(is_spike(early, 1e6, 1e6));
  SpikeGuard enough = guard_after(8, config_of(16, 6));
  EXPECT_TRUE(is_spike(enough, 1e6, 1e6));
}

TEST(SpikeGuardTest, ALevelThatStaysIsOneSpike) {
  SpikeGuard guard = guard_after(16, config_of(16, 3));
  EXPECT_TRUE(is_spike(guard, 9, 1.0));
  int spikes = 0;
  for (int i = 0; i < 32; ++i) spikes += is_spike(guard, 9 + 0.1 * (i % 2), 1.0);
  EXPECT_LT(spikes, 3);
  EXPECT_EQ(guard.losses().size(), 16u);
}

TEST(SpikeGuardTest, RestoredItDecidesTheSame) {
  SpikeGuard guard = guard_after(12, config_of(16, 6));
  SpikeGuard restored(config_of(16, 6));
  restored.restore(guard.losses(), guard.norms());
  for (const double loss : {3.0, 20.0, 4.0, 9.5}) {
    EXPECT_EQ(is_spike(guard, loss, 1.0), is_spike(restored, loss, 1.0)) << loss;
  }
}

TEST(SpikeGuardTest, WithoutAnActionItOnlyMeasures) {
  SpikeConfig config = config_of(16, 6);
  config.action = "none";
  SpikeGuard guard(config);
  for (int i = 0; i < 16; ++i) guard.look_at(i % 2 == 0 ? 2.0 : 4.0, 1.0);
  const SpikeGuard::Verdict verdict = guard.look_at(3 + 7 * std::sqrt(16.0 / 15.0), 1.0);
  EXPECT_NEAR(verdict.loss_z, 7, 1e-12);
  EXPECT_EQ(verdict.norm_z, 0);
  EXPECT_FALSE(verdict.spike);
}

}  // namespace
}  // namespace switchyard
