#include "base/file_ops.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace switchyard::file_ops {

int open(const char* path, int flags, mode_t mode) { return ::open(path, flags, mode); }

ssize_t pread(int fd, void* out, size_t bytes, off_t offset) {
  return ::pread(fd, out, bytes, offset);
}

ssize_t write(int fd, const void* data, size_t bytes) { return ::write(fd, data, bytes); }

int fsync(int fd) { return ::fsync(fd); }

int close(int fd) { return ::close(fd); }

int rename(const char* from, const char* to) { return ::rename(from, to); }

int exchange(const char* a, const char* b) {
  return ::renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
}

int unlink(const char* path) { return ::unlink(path); }

int mkdir(const char* path, mode_t mode) { return ::mkdir(path, mode); }

int rmdir(const char* path) { return ::rmdir(path); }

int flock(int fd, int operation) { return ::flock(fd, operation); }

}  // namespace switchyard::file_ops
