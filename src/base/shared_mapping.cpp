#include "base/shared_mapping.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>

#include "base/file.h"
#include "base/file_ops.h"
#include "base/system_call.h"

namespace switchyard {

SharedMapping::SharedMapping(const std::string& path, std::string_view contents)
    : size_(contents.size()) {
  FileWriter writer(path);  // written, not just extended: a full disk is told here, not by SIGBUS
  writer.append(contents);
  writer.close();
  const int fd = uninterrupted([&] { return file_ops::open(path.c_str(), O_RDWR | O_CLOEXEC, 0); });
  if (fd < 0) throw_errno("open", path);
  void* mapped = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  const int code = errno;
  file_ops::close(fd);
  errno = code;
  if (mapped == MAP_FAILED) throw_errno("map", path);
  data_ = static_cast<char*>(mapped);
}

SharedMapping::~SharedMapping() { ::munmap(data_, size_); }

void SharedMapping::sync() const { ::msync(data_, size_, MS_SYNC); }

}  // namespace switchyard
