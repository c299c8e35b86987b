#include "base/stop_signal.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

namespace switchyard {
namespace {

// Signals belong to the process, so each test is one of its own: a death test.

TEST(StopSignalDeathTest, ASignalLeavesAMarkAndNoMore) {
  for (const int signal : {SIGTERM, SIGUSR1, SIGUSR2, SIGINT}) {
    EXPECT_EXIT(
        {
          catch_stop_signals();
          if (stop_signal() != 0) std::_Exit(1);
          std::raise(signal);
          std::_Exit(stop_signal() == signal ? 85 : 2);
        },
        testing::ExitedWithCode(85), "");
  }
}

TEST(StopSignalDeathTest, TwoSigtermsAreOneRequestASecondCtrlCEndsIt) {
  EXPECT_EXIT(
      {
        catch_stop_signals();
        std::raise(SIGTERM);
        std::raise(SIGTERM);
        std::_Exit(85);
      },
      testing::ExitedWithCode(85), "");
  EXPECT_EXIT(
      {
        catch_stop_signals();
        std::raise(SIGINT);
        std::raise(SIGINT);
        std::_Exit(85);
      },
      testing::KilledBySignal(SIGINT), "");
}

TEST(StopSignalDeathTest, ReleasedOneThatHasComeEndsTheProcess) {
  EXPECT_EXIT(
      {
        catch_stop_signals();
        std::raise(SIGUSR1);
        release_stop_signals();
        std::_Exit(85);
      },
      testing::KilledBySignal(SIGUSR1), "");
}

TEST(StopSignalDeathTest, RestoredOneThatHasComeDoesNot) {
  EXPECT_EXIT(
      {
        catch_stop_signals();
        std::raise(SIGTERM);
        restore_stop_signals();
        std::_Exit(3);
      },
      testing::ExitedWithCode(3), "");
  EXPECT_EXIT(
      {
        catch_stop_signals();
        restore_stop_signals();
        std::raise(SIGTERM);
        std::_Exit(3);
      },
      testing::KilledBySignal(SIGTERM), "");
}

}  // namespace
}  // namespace switchyard
