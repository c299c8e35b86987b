#include "base/system_call.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/scratch_folder.h"

namespace switchyard {
namespace {

std::string message_for(int code) {
  return message_of<DataError>([&] {
    errno = code;
    throw_errno("read", "/some/file");
  });
}

TEST(SystemCallTest, AFailureNamesTheFileTheReasonAndTheWayOut) {
  EXPECT_EQ(message_for(ENOENT), "cannot read /some/file: No such file or directory");
  EXPECT_EQ(message_for(EIO),
            "cannot read /some/file: Input/output error; the disk or the way to it failed, the "
            "system's log says more");
  EXPECT_EQ(message_for(EINTR),
            "cannot read /some/file: Interrupted system call; a signal came in between, try again");
  EXPECT_EQ(message_for(EROFS),
            "cannot read /some/file: Read-only file system; choose a folder that can be written");
  EXPECT_TRUE(message_for(ENOSPC).ends_with("; make room there")) << message_for(ENOSPC);
  EXPECT_TRUE(message_for(EDQUOT).ends_with("; make room there")) << message_for(EDQUOT);
}

/// How often a call is made that fails so many times with an errno.
int calls_made(int failures, int code) {
  int calls = 0;
  uninterrupted([&] {
    errno = code;
    return ++calls <= failures ? -1 : 0;
  });
  return calls;
}

TEST(SystemCallTest, OnlyWhatASignalInterruptedIsMadeAgainAndNotForEver) {
  EXPECT_EQ(calls_made(0, EINTR), 1);
  EXPECT_EQ(calls_made(3, EINTR), 4);
  EXPECT_EQ(calls_made(3, EIO), 1);
  EXPECT_EQ(calls_made(2 * kMaxInterruptions, EINTR), 1 + kMaxInterruptions);
}

}  // namespace
}  // namespace switchyard
