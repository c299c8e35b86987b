#pragma once

#include <sys/types.h>

#include <cstddef>

namespace switchyard::file_ops {

// The system calls by which the program reads and changes what is on a disk, and
// nothing else: each forwards its arguments and leaves the result and errno as they
// are. Looking (stat, listing a folder) and mapping do not pass here. For the files of
// base that wrap them, as file.cpp.
//
// A test's executable that brings its own definition of every function here is
// linked with those in place of file_ops.cpp, which no linker takes out of the
// library then. So tests fail, record and cut short what the program does, and
// there is nothing of it in the program that users run.

int open(const char* path, int flags, mode_t mode);
ssize_t pread(int fd, void* out, size_t bytes, off_t offset);
ssize_t write(int fd, const void* data, size_t bytes);

/// Of a file or of a folder.
int fsync(int fd);

/// The descriptor is gone whatever the result.
int close(int fd);

int rename(const char* from, const char* to);

/// Two names change places in one step (RENAME_EXCHANGE).
int exchange(const char* a, const char* b);

int unlink(const char* path);
int mkdir(const char* path, mode_t mode);
int rmdir(const char* path);

/// LOCK_EX and the like.
int flock(int fd, int operation);

}  // namespace switchyard::file_ops
