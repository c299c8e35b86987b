#pragma once

#include <cerrno>
#include <string>

namespace switchyard {

// What every caller of base/file_ops.h does about calls that fail.

/// A call that signals interrupt this often without a break will never end.
inline constexpr int kMaxInterruptions = 1000;

/// Makes a call that returns -1 and errno again while a signal has interrupted it
/// (EINTR). For calls that have done nothing then: open, read, write, flock. Of
/// fsync, close, rename and the like nobody knows, so they are made once.
template <typename Call>
auto uninterrupted(Call&& call) {
  auto result = call();
  for (int i = 0; i < kMaxInterruptions && result < 0 && errno == EINTR; ++i) result = call();
  return result;
}

/// Throws DataError "cannot <verb> <path>: <the system's words for errno>", and, where
/// there is something to say, what to do about it.
[[noreturn]] void throw_errno(const std::string& verb, const std::string& path);

}  // namespace switchyard
