#include "faults/file_journal.h"

#include <fcntl.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace switchyard {

namespace fs = std::filesystem;

void write_disk(const Disk& disk, const std::string& folder) {
  for (const auto& [path, bytes] : disk) {  // a folder sorts before what is in it
    const std::string target = folder + "/" + path;
    if (path.ends_with('/')) {
      fs::create_directory(target);
    } else {
      std::ofstream(target, std::ios::binary) << bytes;
    }
  }
}

Disk disk_at(const std::string& folder) {
  return FileJournal(folder).after_power_cut(0, [](bool) { return Fate::kKept; });
}

FileJournal::FileJournal(const std::string& root) : root_(root) {
  add_tree(root);
  initial_ = inodes_;
}

int FileJournal::add_inode(bool is_folder) {
  inodes_.push_back({is_folder, "", {}});
  return static_cast<int>(inodes_.size()) - 1;
}

int FileJournal::add_tree(const std::string& path) {
  const int inode = add_inode(fs::is_directory(path));
  if (!inodes_[inode].is_folder) {
    std::ostringstream bytes;
    bytes << std::ifstream(path, std::ios::binary).rdbuf();
    inodes_[inode].bytes = bytes.str();
    return inode;
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
    const int child = add_tree(entry.path().string());
    inodes_[inode].names[entry.path().filename().string()] = child;
  }
  return inode;
}

/// The root itself is the place {0, ""}; no folder for what is outside.
FileJournal::Place FileJournal::place_of(const std::string& path) const {
  if (path == root_) return {0, ""};
  if (!path.starts_with(root_ + "/")) return {};
  Place place{0, ""};
  std::istringstream names(path.substr(root_.size() + 1));
  for (std::string name; std::getline(names, name, '/');) {
    if (name.empty()) continue;
    if (!place.name.empty()) place = {inode_at(place), ""};
    if (place.folder == kNothing) return {};
    place.name = name;
  }
  return place;
}

int FileJournal::inode_at(const Place& place) const {
  if (place.folder == kNothing || place.name.empty()) return place.folder;
  const auto found = inodes_[place.folder].names.find(place.name);
  return found == inodes_[place.folder].names.end() ? kNothing : found->second;
}

void FileJournal::record(Change change) {
  apply(change, Fate::kKept, inodes_);
  changes_.push_back(std::move(change));
}

void FileJournal::change_names(std::vector<NameChange> names) {
  std::erase_if(names, [](const NameChange& name) { return name.place.folder == kNothing; });
  if (names.empty()) return;
  Change change;
  change.kind = Change::Kind::kNames;
  change.names = std::move(names);
  record(std::move(change));
}

void FileJournal::opened(int fd, const std::string& path, int flags) {
  const Place place = place_of(path);
  if (place.folder == kNothing) return;
  int inode = inode_at(place);
  if (inode == kNothing) {
    inode = add_inode(/*is_folder=*/false);
    change_names({{place, inode}});
  }
  Change emptied;
  emptied.kind = Change::Kind::kEmpty;
  emptied.inode = inode;
  if ((flags & O_TRUNC) != 0 && !inodes_[inode].bytes.empty()) record(emptied);
  open_[fd] = {inode, (flags & O_APPEND) != 0 ? inodes_[inode].bytes.size() : 0};
}

void FileJournal::wrote(int fd, std::string_view bytes) {
  const auto found = open_.find(fd);
  if (found == open_.end()) return;
  Change change;
  change.kind = Change::Kind::kWrite;
  change.inode = found->second.inode;
  change.offset = found->second.offset;
  change.bytes = bytes;
  found->second.offset += bytes.size();
  record(std::move(change));
}

void FileJournal::synced(int fd) {
  const auto found = open_.find(fd);
  if (found == open_.end()) return;
  Change change;
  change.inode = found->second.inode;
  record(std::move(change));
}

void FileJournal::made_folder(const std::string& path) {
  const Place place = place_of(path);
  if (place.folder != kNothing) change_names({{place, add_inode(/*is_folder=*/true)}});
}

void FileJournal::removed(const std::string& path) { change_names({{place_of(path), kNothing}}); }

void FileJournal::renamed(const std::string& from, const std::string& to) {
  const Place source = place_of(from);
  change_names({{source, kNothing}, {place_of(to), inode_at(source)}});
}

void FileJournal::exchanged(const std::string& a, const std::string& b) {
  const Place first = place_of(a);
  const Place second = place_of(b);
  change_names({{first, inode_at(second)}, {second, inode_at(first)}});
}

void FileJournal::apply(const Change& change, Fate fate, std::vector<Inode>& inodes) {
  if (fate == Fate::kLost || change.kind == Change::Kind::kSync) return;
  for (const NameChange& name : change.names) {
    std::map<std::string, int>& names = inodes[name.place.folder].names;
    names.erase(name.place.name);
    if (name.inode != kNothing) names[name.place.name] = name.inode;
  }
  if (change.kind == Change::Kind::kEmpty) inodes[change.inode].bytes.clear();
  if (change.kind != Change::Kind::kWrite) return;
  std::string bytes = change.bytes;
  if (fate == Fate::kTorn) bytes.resize(bytes.size() / 2);
  if (fate == Fate::kZeroed) bytes.assign(bytes.size(), '\0');
  if (fate == Fate::kGarbled) {
    for (char& byte : bytes) byte = static_cast<char>(byte ^ 0x5a);
  }
  std::string& file = inodes[change.inode].bytes;
  file.resize(std::max(file.size(), change.offset + bytes.size()));
  file.replace(change.offset, bytes.size(), bytes);
}

Disk FileJournal::after_power_cut(size_t count, const ChooseFate& choose) const {
  std::vector<Inode> inodes = initial_;
  for (size_t i = inodes.size(); i < inodes_.size(); ++i) {
    inodes.push_back({inodes_[i].is_folder, "", {}});
  }
  std::vector<size_t> synced(inodes.size(), 0);  // where its last sync is
  for (size_t i = 0; i < count; ++i) {
    if (changes_[i].kind == Change::Kind::kSync) synced[changes_[i].inode] = i;
  }
  for (size_t i = 0; i < count; ++i) {
    const Change& change = changes_[i];
    if (change.kind == Change::Kind::kSync) continue;
    const bool is_names = change.kind == Change::Kind::kNames;
    const bool is_durable =
        is_names ? std::all_of(change.names.begin(), change.names.end(),
                               [&](const NameChange& n) { return synced[n.place.folder] > i; })
                 : synced[change.inode] > i;
    apply(change, is_durable ? Fate::kKept : choose(is_names), inodes);
  }
  Disk disk;
  collect(inodes, 0, "", disk);
  return disk;
}

void FileJournal::collect(const std::vector<Inode>& inodes, int folder, const std::string& prefix,
                          Disk& disk) {
  for (const auto& [name, inode] : inodes[folder].names) {
    const std::string path = prefix + name;
    if (inodes[inode].is_folder) {
      disk[path + "/"];
      collect(inodes, inode, path + "/", disk);
    } else {
      disk[path] = inodes[inode].bytes;
    }
  }
}

}  // namespace switchyard
