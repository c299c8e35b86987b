#include "base/system_call.h"

#include <sys/statvfs.h>

#include <system_error>

#include "base/error.h"
#include "base/file.h"

namespace switchyard {
namespace {

std::string free_space_at(const std::string& path) {
  struct statvfs disk;
  if (::statvfs(folder_of(path).c_str(), &disk) != 0) return "";
  const uint64_t free_bytes = uint64_t{disk.f_bavail} * disk.f_frsize;
  return " (" + std::to_string(free_bytes) + " bytes free)";
}

/// Follows the system's words.
std::string way_out(int code, const std::string& path) {
  switch (code) {
    case ENOSPC:
    case EDQUOT:
      return free_space_at(path) + "; make room there";
    case EIO:
      return "; the disk or the way to it failed, the system's log says more";
    case EROFS:
      return "; choose a folder that can be written";
    case EINTR:
      return "; a signal came in between, try again";
    default:
      return "";
  }
}

}  // namespace

void throw_errno(const std::string& verb, const std::string& path) {
  const int code = errno;
  throw DataError("cannot " + verb + " " + path + ": " + std::generic_category().message(code) +
                  way_out(code, path));
}

}  // namespace switchyard
