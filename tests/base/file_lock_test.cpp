#include "base/file_lock.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "base/error.h"
#include "base/file.h"
#include "base/scratch_folder.h"

namespace switchyard {
namespace {

/// The message of taking the lock, "" when it was got.
std::string refusal(const std::string& path) {
  try {
    const FileLock lock(path);
    return "";
  } catch (const DataError& error) {
    return error.what();
  }
}

TEST(FileLockTest, IsHeldOnceAndNamesItsHolder) {
  const ScratchFolder folder;
  const FileLock first(folder / "lock");
  const std::string message = refusal(folder / "lock");
  EXPECT_NE(message.find(folder / "lock"), std::string::npos);
  EXPECT_NE(message.find("is held by process " + std::to_string(::getpid()) + " on "),
            std::string::npos)
      << message;
}

TEST(FileLockTest, IsFreeAgainAfterwards) {
  const ScratchFolder folder;
  { const FileLock first(folder / "lock"); }
  EXPECT_EQ(refusal(folder / "lock"), "");
}

TEST(FileLockTest, WhatAnEarlierHolderWroteHoldsNobodyUp) {
  const ScratchFolder folder;
  write_file_atomically(folder / "lock",
                        "process 1 on elsewhere, since 2020-01-01 00:00:00 and more");
  EXPECT_EQ(refusal(folder / "lock"), "");
  const std::string text = read_file(folder / "lock");
  EXPECT_EQ(text.find("elsewhere"), std::string::npos);
  EXPECT_EQ(text.find("and more"), std::string::npos);
}

TEST(FileLockTest, AKilledProcessHoldsNothing) {
  const ScratchFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    const FileLock lock(folder / "lock");
    ::raise(SIGKILL);
  }
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(refusal(folder / "lock"), "");
}

TEST(FileLockTest, ALinkOrNoFolderIsRefused) {
  const ScratchFolder folder;
  ASSERT_EQ(::symlink("/etc/passwd", (folder / "link").c_str()), 0);
  EXPECT_NE(refusal(folder / "link").find("cannot open the lock"), std::string::npos);
  EXPECT_NE(refusal(folder / "none/lock").find("No such file"), std::string::npos);
}

}  // namespace
}  // namespace switchyard
