#include "base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <thread>

#include "base/error.h"
#include "base/file_ops.h"
#include "base/log.h"
#include "base/system_call.h"

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
  const ssize_t n =
      uninterrupted([&] { return file_ops::pread(fd, text.data(), text.size() - 1, 0); });
  const std::string holder(text.data(), n > 0 ? static_cast<size_t>(n) : 0);
  return holder.empty() ? "a process that did not say who it is" : printable(holder);
}

/// Whether the lock was got; throws when the file system fails.
bool try_lock(int fd, const std::string& path) {
  for (int i = 0; i < kTries; ++i) {
    const auto lock = [&] { return file_ops::flock(fd, LOCK_EX | LOCK_NB); };
    if (uninterrupted(lock) == 0) return true;
    if (errno == ENOLCK || errno == EOPNOTSUPP || errno == ENOSYS) {
      log_warning("no file locks at " + path + ": two jobs in one folder would not notice");
      return true;
    }
    if (errno != EWOULDBLOCK) throw_errno("lock", path);
    std::this_thread::sleep_for(kPause);
  }
  return false;
}

/// Takes the lock and says so in the file, or throws.
void hold(int fd, const std::string& path) {
  if (!try_lock(fd, path)) {
    throw DataError(path + " is held by " + read_holder(fd) +
                    ": another job uses this folder; wait for its end, or give this one another "
                    "run.name");
  }
  const std::string text = holder_text();
  const auto write = [&] { return file_ops::write(fd, text.data(), text.size()); };
  if (::ftruncate(fd, 0) != 0 || uninterrupted(write) != static_cast<ssize_t>(text.size())) {
    log_warning("cannot write into the lock " + path +
                ": a second job will be refused, but not told by whom");
  }
}

int open_lock(const std::string& path) {
  const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
  const int fd = uninterrupted([&] { return file_ops::open(path.c_str(), flags, 0666); });
  if (fd < 0) throw_errno("open the lock", path);
  return fd;
}

}  // namespace

FileLock::FileLock(const std::string& path) : fd_(open_lock(path)) {
  try {
    hold(fd_, path);
  } catch (...) {
    file_ops::close(fd_);
    throw;
  }
}

FileLock::~FileLock() { file_ops::close(fd_); }

}  // namespace switchyard
