#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

/// What is under a folder: relative paths and bytes; a folder's path ends in "/".
using Disk = std::map<std::string, std::string>;

/// Writes it under a folder that is there.
void write_disk(const Disk& disk, const std::string& folder);

/// What is under a folder by now.
Disk disk_at(const std::string& folder);

/// What becomes of a change that nobody has waited for when the power goes.
enum class Fate { kKept, kLost, kTorn, kZeroed, kGarbled };

/// The fate of the next such change: of a file's bytes, or of names, which are kept
/// (the whole of a rename or an exchange) or lost.
using ChooseFate = std::function<Fate(bool is_names)>;

/// Every change under a root folder, in order, and what a power cut may make of it.
///
/// The model is POSIX's, harsher than any one file system: a write is on the disk
/// after an fsync of its file; a name that was made, changed or removed is, after an
/// fsync of the folder that it is in. What was not waited for may be there or not, in
/// any combination: a rename without the bytes of its file, a removal without the
/// rename before it.
class FileJournal {
 public:
  /// What is under `root` by now is on the disk.
  explicit FileJournal(const std::string& root);

  size_t size() const { return changes_.size(); }

  /// The disk when the power goes after the first `count` changes and syncs.
  Disk after_power_cut(size_t count, const ChooseFate& choose) const;

  // Told by faulty_file_ops.cpp, one at a time. Paths outside the root are nothing to it.
  void opened(int fd, const std::string& path, int flags);
  void wrote(int fd, std::string_view bytes);
  void synced(int fd);
  void closed(int fd) { open_.erase(fd); }
  void made_folder(const std::string& path);
  void removed(const std::string& path);
  void renamed(const std::string& from, const std::string& to);
  void exchanged(const std::string& a, const std::string& b);

 private:
  static constexpr int kNothing = -1;

  struct Inode {
    bool is_folder = false;
    std::string bytes;
    std::map<std::string, int> names;  // of a folder: name to inode
  };
  /// A name in a folder.
  struct Place {
    int folder = kNothing;
    std::string name;
  };
  struct NameChange {
    Place place;
    int inode = kNothing;
  };
  struct Change {
    enum class Kind { kNames, kWrite, kEmpty, kSync } kind = Kind::kSync;
    int inode = kNothing;  // unless kNames
    size_t offset = 0;     // of kWrite
    std::string bytes;
    std::vector<NameChange> names;
  };
  struct OpenFile {
    int inode = kNothing;
    size_t offset = 0;
  };

  int add_tree(const std::string& path);
  int add_inode(bool is_folder);
  Place place_of(const std::string& path) const;
  int inode_at(const Place& place) const;
  void change_names(std::vector<NameChange> names);
  void record(Change change);
  static void apply(const Change& change, Fate fate, std::vector<Inode>& inodes);
  static void collect(const std::vector<Inode>& inodes, int folder, const std::string& prefix,
                      Disk& disk);

  std::string root_;
  std::vector<Inode> inodes_;  // as the program sees them; 0 is the root
  std::vector<Inode> initial_;
  std::vector<Change> changes_;
  std::map<int, OpenFile> open_;
};

}  // namespace switchyard
