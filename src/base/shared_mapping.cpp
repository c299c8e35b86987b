#include "base/shared_mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/error.h"
#include "base/file.h"

namespace switchyard {

SharedMapping::SharedMapping(const std::string& path, std::string_view contents)
    : size_(contents.size()) {
  FileWriter writer(path);  // written, not just extended: a full disk is told here, not by SIGBUS
  writer.append(contents);
  writer.close();
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  void* mapped =
      fd < 0 ? MAP_FAILED : ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  const int code = errno;
  if (fd >= 0) ::close(fd);
  if (mapped == MAP_FAILED) {
    throw DataError("cannot map " + path + ": " + std::generic_category().message(code));
  }
  data_ = static_cast<char*>(mapped);
}

SharedMapping::~SharedMapping() { ::munmap(data_, size_); }

void SharedMapping::sync() const { ::msync(data_, size_, MS_SYNC); }

}  // namespace switchyard
