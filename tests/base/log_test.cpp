#include "base/log.h"

#include <gtest/gtest.h>

#include <sstream>
#include <thread>
#include <vector>

namespace switchyard {
namespace {

template <typename Action>
std::string logged(int rank, Action&& action) {
  testing::internal::CaptureStderr();
  set_log_rank(rank);
  action();
  set_log_rank(0);
  return testing::internal::GetCapturedStderr();
}

TEST(LogTest, RankZeroSpeaksForAll) {
  const auto speak = [] {
    log_info("saved");
    log_warning("slow disk");
  };
  EXPECT_EQ(logged(0, speak), "saved\nwarning: slow disk\n");
  EXPECT_EQ(logged(1, speak), "");
}

TEST(LogTest, EveryRankNamesItself) {
  EXPECT_EQ(logged(3, [] { log_every_rank("lost a peer"); }), "[rank 3] lost a peer\n");
}

TEST(LogTest, NamesCannotPlayWithTheTerminal) {
  EXPECT_EQ(logged(0, [] { log_info("a\x1b[2Jb\xc3\xa9\tc\nd"); }), "a\\x1b[2Jb\\xc3\\xa9\tc\nd\n");
}

TEST(LogTest, AStatusLineStaysBelowTheMessages) {
  const std::string erase = "\r\x1b[K";
  const auto speak = [] {
    set_status_line("half done");
    log_info("saved");
    set_status_line("");
    set_status_line("");
    log_info("over");
  };
  EXPECT_EQ(logged(0, speak), erase + "half done" + erase + "saved\nhalf done" + erase + "over\n");
  EXPECT_EQ(logged(1, speak), "");
}

TEST(LogTest, LinesOfThreadsStayWhole) {
  const std::string line(300, 'x');
  const std::string text = logged(0, [&] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 50; ++i) log_info(line);
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  std::istringstream lines(text);
  int count = 0;
  for (std::string got; std::getline(lines, got); ++count) EXPECT_EQ(got, line);
  EXPECT_EQ(count, 200);
}

}  // namespace
}  // namespace switchyard
