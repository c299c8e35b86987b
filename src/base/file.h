#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

// Every file that the program reads or writes passes through here. All of it
// throws DataError with the path and the system's own words when a call fails;
// short reads, short writes and the results of fsync and close are checked. A
// failed fsync is final: the data may be gone, and a second try may lie.

/// Whether a path's last component may be a symbolic link.
enum class Symlinks { kFollow, kRefuse };

/// A whole regular file, mapped read-only. The file must not shrink while it is
/// mapped (SIGBUS), so untrusted or shared files are better read with FileReader.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path, Symlinks symlinks = Symlinks::kFollow);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  /// Null when the file is empty.
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// A regular file, opened for positioned reads. Threads may share one.
class FileReader {
 public:
  explicit FileReader(const std::string& path, Symlinks symlinks = Symlinks::kFollow);
  ~FileReader();
  FileReader(FileReader&& other) noexcept;
  FileReader& operator=(FileReader&& other) noexcept;
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  /// Size at the time of opening.
  uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }

  /// Fills all of `out` from `offset` on, or throws.
  void pread_exact(uint64_t offset, std::span<std::byte> out) const;

  /// Asks the system to drop what it has cached of the file, so that the next read
  /// comes from the disk. It may not: pages that are not yet written stay.
  void forget_cached_pages() const;

 private:
  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

/// Opens, fills all of `out` from `offset` on, closes.
void pread_exact(const std::string& path, uint64_t offset, std::span<std::byte> out);

/// The bytes of a regular file of at most `max_bytes`.
std::string read_file(const std::string& path, uint64_t max_bytes = uint64_t{1} << 32,
                      Symlinks symlinks = Symlinks::kFollow);

/// Replaces `path` so that, whatever happens, it holds the old bytes or the new
/// ones: temporary file in the same folder, fsync, rename, fsync of the folder.
void write_file_atomically(const std::string& path, std::string_view bytes);

enum class OpenMode {
  kTruncate,   // create, or empty what is there
  kCreateNew,  // fail if the path exists
  kAppend,     // create, or go on at the end
};

/// A buffered writer. What was not closed with success is not a file: the
/// destructor closes without a word, so a writer abandoned by an exception does
/// not hide that exception.
class FileWriter {
 public:
  explicit FileWriter(const std::string& path, OpenMode mode = OpenMode::kTruncate);
  ~FileWriter();
  FileWriter(FileWriter&& other) noexcept;
  FileWriter& operator=(FileWriter&&) = delete;
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void append(const void* data, size_t bytes);
  void append(std::string_view bytes) { append(bytes.data(), bytes.size()); }

  /// Bytes in the file, buffered ones included: where the next append goes.
  uint64_t position() const { return position_; }
  const std::string& path() const { return path_; }

  /// Hands the buffer to the system: other processes see the bytes.
  void flush();

  /// flush, then waits until the bytes are on the disk. The name of a new file is
  /// durable only after sync_folder.
  void fsync();

  /// flush and close. Nothing else may be called afterwards.
  void close();

 private:
  void write_all(const char* data, size_t bytes);

  std::string path_;
  int fd_ = -1;
  uint64_t position_ = 0;
  std::string buffer_;
};

/// Waits until the names in a folder are on the disk.
void sync_folder(const std::string& folder);

/// The folder that holds `path`: "." for a bare name.
std::string folder_of(const std::string& path);

/// Whether a name out of a file may be used in a path: 1 to 128 of A-Z a-z 0-9
/// . _ - and neither "." nor "..", so that it cannot leave its folder.
bool is_plain_name(std::string_view name);

/// Whether there is something of that name; a link counts by what it points at.
/// False only when the system says that there is nothing.
bool path_exists(const std::string& path);
bool is_folder(const std::string& path);

/// Makes one folder; its parent exists, it does not.
void make_folder(const std::string& path);

/// Makes a folder and the missing ones above it, and waits until their names are
/// on the disk; content with one that is there.
void make_folders(const std::string& path);

/// Names in a folder, sorted, without "." and "..".
std::vector<std::string> list_folder(const std::string& folder);

/// Atomic on one file system; replaces a file `to`.
void rename_path(const std::string& from, const std::string& to);

/// Puts the folder `from` at `to`. When a folder is there, the two change places
/// in one step where the file system can (RENAME_EXCHANGE), and in three renames
/// where it cannot, between which a kill leaves nothing at `to`; it is found at `from`
/// afterwards. Returns whether it was. When it throws, there is still one at `to`.
bool swap_in_folder(const std::string& from, const std::string& to);

/// Removes a file or a folder with all below it, never following links; content
/// when there is nothing.
void remove_tree(const std::string& path);

}  // namespace switchyard
