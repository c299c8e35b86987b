#include "base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <system_error>
#include <thread>

#include "base/error.h"
#include "base/log.h"

namespace switchyard {
namespace {

constexpr int kTries = 21;
constexpr std::chrono::milliseconds kPause{100};

std::string holder_text() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  const std::time_t now = std::time(nullptr);
  std::array<char, 64> since{};
  std::strftime(since.data(), since.size(), "%Y-%m-%d %H:%M:%S", std::localtime(&now));
  return "process " + std::to_string(::getpid()) + " on " + host.data() + ", since " + since.data();
}

std::string read_holder(int fd) {
  std::array<char, 512> text{};
  const ssize_t n = ::pread(fd, text.data(), text.size() - 1, 0);
  const std::string holder(text.data(), n > 0 ? static_cast<size_t>(n) : 0);
  return holder.empty() ? "a process that did not say who it is" : printable(holder);
}

/// Whether the lock was got; throws when the file system fails.
bool try_lock(int fd, const std::string& path) {
  for (int i = 0; i < kTries; ++i) {
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
    if (errno == ENOLCK || errno == EOPNOTSUPP || errno == ENOSYS) {
      log_warning("no file locks at " + path + ": two jobs in one folder would not notice");
      return true;
    }
    if (errno != EWOULDBLOCK && errno != EINTR) {
      throw DataError("cannot lock " + path + ": " + std::generic_category().message(errno));
    }
    std::this_thread::sleep_for(kPause);
  }
  return false;
}

}  // namespace

FileLock::FileLock(const std::string& path)
    : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666)) {
  if (fd_ < 0) {
    throw DataError("cannot open the lock " + path + ": " + std::generic_category().message(errno));
  }
  if (!try_lock(fd_, path)) {
    const std::string holder = read_holder(fd_);
    ::close(fd_);
    throw DataError(path + " is held by " + holder +
                    ": another job uses this folder; wait for its end, or give this one another "
                    "run.name");
  }
  const std::string text = holder_text();
  if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, text.data(), text.size(), 0) < 0) {
    log_warning("cannot write into the lock " + path);
  }
}

FileLock::~FileLock() { ::close(fd_); }

}  // namespace switchyard
