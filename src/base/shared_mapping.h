#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace switchyard {

/// A file of a fixed size, mapped so that what is stored into memory is in the file:
/// other processes read it at once, and it stays when this one is killed. No call is
/// made per change. Not durable against a power cut before `sync`.
class SharedMapping {
 public:
  /// Writes `contents` to `path`, in place of what was there, and maps it. Throws
  /// DataError.
  SharedMapping(const std::string& path, std::string_view contents);
  ~SharedMapping();
  SharedMapping(const SharedMapping&) = delete;
  SharedMapping& operator=(const SharedMapping&) = delete;

  char* data() const { return data_; }
  size_t size() const { return size_; }

  /// Hands the changes to the file system, so that other hosts see them. Waits.
  void sync() const;

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace switchyard
