#pragma once

#include <string>

namespace switchyard {

/// A file that one process at a time holds (flock), for the life of the object; the
/// system lets go of it when the process ends, however it ends, so no lock is ever
/// stale. The file says who holds it, and stays.
class FileLock {
 public:
  /// Tries for two seconds, since a job that was just killed may still be ending.
  /// Throws DataError that names the holder's host, process and start. On a file system
  /// without locks it warns and goes on.
  explicit FileLock(const std::string& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace switchyard
