#include "report/live_server.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/scratch_folder.h"

namespace switchyard {
namespace {

TEST(LiveServerTest, APortThatIsTakenIsAConfigError) {
  const ScratchFolder folder;
  const LiveServer first(folder.path(), "127.0.0.1", 0);
  ASSERT_TRUE(first.url().starts_with("http://127.0.0.1:")) << first.url();
  const int port = std::stoi(first.url().substr(first.url().rfind(':') + 1));
  const std::string message =
      message_of<ConfigError>([&] { LiveServer(folder.path(), "127.0.0.1", port); });
  EXPECT_NE(message.find("127.0.0.1:" + std::to_string(port)), std::string::npos) << message;
}

TEST(LiveServerTest, APortIsFreeAgainAfterwards) {
  const ScratchFolder folder;
  int port = 0;
  for (int i = 0; i < 3; ++i) {
    const LiveServer server(folder.path(), "127.0.0.1", port);
    port = std::stoi(server.url().substr(server.url().rfind(':') + 1));
  }
}

TEST(LiveServerTest, AnAddressOfAnotherMachineIsAConfigError) {
  const ScratchFolder folder;
  message_of<ConfigError>([&] { LiveServer(folder.path(), "192.0.2.1", 0); });
}

TEST(LiveServerTest, KnowsWhatLoopbackIs) {
  for (const char* host : {"127.0.0.1", "127.1.2.3", "localhost", "::1"})
    EXPECT_TRUE(is_loopback(host));
  for (const char* host : {"0.0.0.0", "::", "10.0.0.1", "example", "127.0.0.1.example", ""})
    EXPECT_FALSE(is_loopback(host));
}

}  // namespace
}  // namespace switchyard
