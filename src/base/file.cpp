#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <random>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file_ops.h"
#include "base/system_call.h"

namespace switchyard {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
/// Bytes of a file that the disk is given at a time.
constexpr uint64_t kWritebackBytes = uint64_t{8} << 20;

int open_file(const std::string& path, int flags) {
  return uninterrupted([&] { return file_ops::open(path.c_str(), flags | O_CLOEXEC, 0666); });
}

/// Closes on every way out, unless released.
class ScopedDescriptor {
 public:
  explicit ScopedDescriptor(int fd) : fd_(fd) {}
  ~ScopedDescriptor() {
    if (fd_ >= 0) file_ops::close(fd_);
  }
  ScopedDescriptor(const ScopedDescriptor&) = delete;
  ScopedDescriptor& operator=(const ScopedDescriptor&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

struct OpenedFile {
  int fd;
  uint64_t size;
};

/// O_NONBLOCK: a FIFO that nobody writes must be refused, not waited for.
OpenedFile open_regular(const std::string& path, Symlinks symlinks) {
  const int nofollow = symlinks == Symlinks::kRefuse ? O_NOFOLLOW : 0;
  ScopedDescriptor file(open_file(path, O_RDONLY | O_NONBLOCK | nofollow));
  if (file.get() < 0) {
    if (errno == ELOOP && nofollow) throw DataError("cannot open " + path + ": a symbolic link");
    throw_errno("open", path);
  }
  struct stat status;
  if (::fstat(file.get(), &status) != 0) throw_errno("stat", path);
  if (!S_ISREG(status.st_mode)) throw DataError("cannot read " + path + ": not a regular file");
  return {file.release(), static_cast<uint64_t>(status.st_size)};
}

int open_for_writing(const std::string& path, OpenMode mode) {
  int flags = O_WRONLY | O_CREAT;
  if (mode == OpenMode::kTruncate) flags |= O_TRUNC;
  if (mode == OpenMode::kCreateNew) flags |= O_EXCL;
  if (mode == OpenMode::kAppend) flags |= O_APPEND;
  const int fd = open_file(path, flags);
  if (fd < 0) throw_errno(mode == OpenMode::kAppend ? "append to" : "create", path);
  return fd;
}

/// Lets the disk begin with what is written of a large file while the rest is still being
/// made, so that fsync finds little to wait for. A hint, of the pieces that end in
/// [before, after): nothing is durable by it, and an error is fsync's to tell.
void start_writeback(int fd, uint64_t before, uint64_t after) {
  const uint64_t begin = before / kWritebackBytes * kWritebackBytes;
  const uint64_t end = after / kWritebackBytes * kWritebackBytes;
  if (begin < end) {
    ::sync_file_range(fd, static_cast<off64_t>(begin), static_cast<off64_t>(end - begin),
                      SYNC_FILE_RANGE_WRITE);
  }
}

std::string temporary_name(const std::string& path) {
  std::random_device entropy;
  return path + ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(entropy());
}

}  // namespace

MappedFile::MappedFile(const std::string& path, Symlinks symlinks) : path_(path) {
  const OpenedFile opened = open_regular(path, symlinks);
  const ScopedDescriptor file(opened.fd);
  if (opened.size == 0) return;
  void* mapped = ::mmap(nullptr, opened.size, PROT_READ, MAP_SHARED, file.get(), 0);
  if (mapped == MAP_FAILED) throw_errno("map", path);
  data_ = static_cast<const std::byte*>(mapped);
  size_ = opened.size;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

FileReader::FileReader(const std::string& path, Symlinks symlinks) : path_(path) {
  const OpenedFile opened = open_regular(path, symlinks);
  fd_ = opened.fd;
  size_ = opened.size;
}

FileReader::~FileReader() {
  if (fd_ >= 0) file_ops::close(fd_);
}

FileReader::FileReader(FileReader&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

FileReader& FileReader::operator=(FileReader&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  return *this;
}

void FileReader::pread_exact(uint64_t offset, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = uninterrupted([&] {
      return file_ops::pread(fd_, out.data() + done, out.size() - done,
                             static_cast<off_t>(offset + done));
    });
    if (n < 0) throw_errno("read", path_);
    if (n == 0) {
      throw DataError("cannot read " + path_ + ": it ends at byte " +
                      std::to_string(offset + done) + ", " + std::to_string(out.size() - done) +
                      " bytes short");
    }
    done += static_cast<size_t>(n);
  }
}

void FileReader::forget_cached_pages() const { ::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED); }

void pread_exact(const std::string& path, uint64_t offset, std::span<std::byte> out) {
  FileReader(path).pread_exact(offset, out);
}

std::string read_file(const std::string& path, uint64_t max_bytes, Symlinks symlinks) {
  const FileReader file(path, symlinks);
  if (file.size() > max_bytes) {
    throw DataError("cannot read " + path + ": " + std::to_string(file.size()) +
                    " bytes, more than the limit of " + std::to_string(max_bytes));
  }
  std::string bytes(file.size(), '\0');
  file.pread_exact(0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

void write_file_atomically(const std::string& path, std::string_view bytes) {
  const std::string temporary = temporary_name(path);
  try {
    FileWriter file(temporary, OpenMode::kCreateNew);
    file.append(bytes);
    file.fsync();
    file.close();
    rename_path(temporary, path);
  } catch (...) {
    file_ops::unlink(temporary.c_str());
    throw;
  }
  sync_folder(folder_of(path));
}

FileWriter::FileWriter(const std::string& path, OpenMode mode)
    : path_(path), fd_(open_for_writing(path, mode)) {
  if (mode != OpenMode::kAppend) return;
  const off_t end = ::lseek(fd_, 0, SEEK_END);
  if (end < 0) {
    const ScopedDescriptor closing(std::exchange(fd_, -1));
    throw_errno("seek in", path_);
  }
  position_ = static_cast<uint64_t>(end);
}

FileWriter::~FileWriter() {
  if (fd_ >= 0) file_ops::close(fd_);
}

FileWriter::FileWriter(FileWriter&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      position_(other.position_),
      buffer_(std::move(other.buffer_)) {}

void FileWriter::append(const void* data, size_t bytes) {
  if (bytes == 0) return;
  if (buffer_.size() + bytes > kBufferBytes) flush();
  if (bytes >= kBufferBytes) {
    write_all(static_cast<const char*>(data), bytes);
  } else {
    buffer_.append(static_cast<const char*>(data), bytes);
  }
  start_writeback(fd_, position_, position_ + bytes);
  position_ += bytes;
}

void FileWriter::write_all(const char* data, size_t bytes) {
  size_t done = 0;
  while (done < bytes) {
    const ssize_t n =
        uninterrupted([&] { return file_ops::write(fd_, data + done, bytes - done); });
    if (n < 0) throw_errno("write " + std::to_string(bytes - done) + " bytes to", path_);
    done += static_cast<size_t>(n);
  }
}

void FileWriter::flush() {
  write_all(buffer_.data(), buffer_.size());
  buffer_.clear();
}

void FileWriter::fsync() {
  flush();
  if (file_ops::fsync(fd_) != 0) throw_errno("fsync", path_);
}

void FileWriter::close() {
  flush();
  // On Linux the descriptor is gone even when close fails, EINTR included.
  if (file_ops::close(std::exchange(fd_, -1)) != 0) throw_errno("close", path_);
}

void sync_folder(const std::string& folder) {
  const ScopedDescriptor opened(open_file(folder, O_RDONLY | O_DIRECTORY));
  if (opened.get() < 0) throw_errno("open", folder);
  if (file_ops::fsync(opened.get()) != 0) throw_errno("fsync", folder);
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

bool is_plain_name(std::string_view name) {
  constexpr std::string_view kAllowed =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  return !name.empty() && name.size() <= 128 && name != "." && name != ".." &&
         name.find_first_not_of(kAllowed) == std::string_view::npos;
}

bool path_exists(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) == 0) return true;
  if (errno == ENOENT || errno == ENOTDIR) return false;
  throw_errno("look at", path);
}

bool is_folder(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) == 0) return S_ISDIR(status.st_mode);
  if (errno == ENOENT || errno == ENOTDIR) return false;
  throw_errno("look at", path);
}

void make_folder(const std::string& path) {
  if (file_ops::mkdir(path.c_str(), 0777) != 0) throw_errno("create", path);
}

void make_folders(const std::string& path) {
  for (size_t end = 0; end != std::string::npos;) {
    end = path.find('/', end + 1);
    const std::string folder = path.substr(0, end);
    if (is_folder(folder)) continue;
    if (file_ops::mkdir(folder.c_str(), 0777) == 0) {
      sync_folder(folder_of(folder));
    } else if (errno != EEXIST) {  // which another rank may have made meanwhile
      throw_errno("create", path);
    }
  }
  if (!is_folder(path)) throw DataError("cannot create " + path + ": something else is there");
}

std::vector<std::string> list_folder(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error) throw DataError("cannot list " + folder + ": " + error.message());
  std::sort(names.begin(), names.end());
  return names;
}

void rename_path(const std::string& from, const std::string& to) {
  if (file_ops::rename(from.c_str(), to.c_str()) != 0) throw_errno("rename " + from + " to", to);
}

bool swap_in_folder(const std::string& from, const std::string& to) {
  if (!path_exists(to)) {
    rename_path(from, to);
    return false;
  }
  if (file_ops::exchange(from.c_str(), to.c_str()) == 0) return true;
  if (errno != EINVAL && errno != ENOSYS && errno != EXDEV) {
    throw_errno("exchange " + from + " with", to);
  }
  const std::string aside = temporary_name(to);
  rename_path(to, aside);
  try {
    rename_path(from, to);
  } catch (const DataError&) {
    rename_path(aside, to);
    throw;
  }
  rename_path(aside, from);
  return true;
}

void remove_tree(const std::string& path) {
  struct stat status;
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return;
    throw_errno("look at", path);
  }
  if (!S_ISDIR(status.st_mode)) {
    if (file_ops::unlink(path.c_str()) != 0 && errno != ENOENT) throw_errno("remove", path);
    return;
  }
  for (const std::string& name : list_folder(path)) remove_tree(path + "/" + name);
  if (file_ops::rmdir(path.c_str()) != 0 && errno != ENOENT) throw_errno("remove", path);
}

}  // namespace switchyard
