#include "faults/faulty_file_ops.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include "base/file_ops.h"

namespace switchyard {
namespace {

using Deed = FileFault::Deed;

int own_rank() {
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  return rank == nullptr ? 0 : std::atoi(rank);
}

struct State {
  std::mutex mutex;
  FileFault fault;
  int64_t counted = 0;
  std::string struck, struck_path;
  std::map<int, std::string> open_paths;
  FileJournal* journal = nullptr;
};

void write_count();

FileFault fault_of_environment() {
  const char* text = std::getenv("SWITCHYARD_FILE_FAULT");
  if (text == nullptr) return {};
  try {
    const FileFault fault = parse_file_fault(text);
    if (fault.rank >= 0 && fault.rank != own_rank()) return {};
    if (fault.deed == Deed::kCount) std::at_quick_exit(write_count);
    return fault;
  } catch (const std::exception& error) {
    fprintf(stderr, "SWITCHYARD_FILE_FAULT=%s: %s\n", text, error.what());
    std::abort();
  }
}

/// Never destroyed: files are closed until the very end of the process.
State& state() {
  static State& only = *[] {
    auto* made = new State;
    made->fault = fault_of_environment();
    return made;
  }();
  return only;
}

void write_count() {
  const std::string path = state().fault.count_file + "." + std::to_string(own_rank());
  FILE* file = ::fopen(path.c_str(), "w");
  if (file == nullptr) return;
  fprintf(file, "%lld\n", static_cast<long long>(state().counted));
  ::fclose(file);
}

/// Counts the operation; what is to happen in it.
FileFault judge(const char* op, const std::string& path, const std::string& other = "") {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  const auto concerns = [&](const std::string& p) {
    return p.find(s.fault.path) != std::string::npos;
  };
  if (!concerns(path) && !concerns(other)) return {};
  ++s.counted;
  const bool strikes = s.fault.for_ever ? s.counted >= s.fault.at : s.counted == s.fault.at;
  if (!strikes || s.fault.deed == Deed::kNone || s.fault.deed == Deed::kCount) return {};
  if (s.struck.empty()) {
    s.struck = op;
    s.struck_path = path;
  }
  return s.fault;
}

std::string path_of(int fd) {
  const std::lock_guard lock(state().mutex);
  const auto found = state().open_paths.find(fd);
  return found == state().open_paths.end() ? "" : found->second;
}

void die() { ::kill(::getpid(), SIGKILL); }

/// Makes the call, and notes it in the journal if it succeeds; both in one step.
template <typename Call, typename Note>
auto recorded(Call&& call, Note&& note) {
  State& s = state();
  std::unique_lock lock(s.mutex);
  if (s.journal == nullptr) {
    lock.unlock();
    return call();
  }
  const auto result = call();
  if (result >= 0) note(*s.journal, result);
  return result;
}

template <typename Call, typename Note>
auto act(const FileFault& fault, Call&& call, Note&& note) -> decltype(call()) {
  if (fault.deed == Deed::kKill) die();
  if (fault.deed == Deed::kSleep) {
    std::this_thread::sleep_for(std::chrono::milliseconds(fault.milliseconds));
  }
  if (fault.deed == Deed::kFail) {
    errno = fault.error;
    return -1;
  }
  const auto result = recorded(call, note);
  if (fault.deed == Deed::kKillAfter) die();
  return result;
}

size_t shortened(const FileFault& fault, size_t bytes) {
  return fault.deed == Deed::kShort ? std::max<size_t>(1, bytes / 2) : bytes;
}

}  // namespace

void set_file_fault(const FileFault& fault) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.fault = fault;
  s.counted = 0;
  s.struck.clear();
  s.struck_path.clear();
}

int64_t file_ops_counted() {
  const std::lock_guard lock(state().mutex);
  return state().counted;
}

std::string struck_file_op() {
  const std::lock_guard lock(state().mutex);
  return state().struck;
}

std::string struck_file_path() {
  const std::lock_guard lock(state().mutex);
  return state().struck_path;
}

void record_file_ops(FileJournal* journal) {
  const std::lock_guard lock(state().mutex);
  state().journal = journal;
}

namespace file_ops {

int open(const char* path, int flags, mode_t mode) {
  const int fd = act(
      judge("open", path), [&] { return ::open(path, flags, mode); },
      [&](FileJournal& journal, int opened) { journal.opened(opened, path, flags); });
  if (fd >= 0) {
    const std::lock_guard lock(state().mutex);
    state().open_paths[fd] = path;
  }
  return fd;
}

ssize_t pread(int fd, void* out, size_t bytes, off_t offset) {
  const FileFault fault = judge("pread", path_of(fd));
  return act(
      fault, [&] { return ::pread(fd, out, shortened(fault, bytes), offset); },
      [](FileJournal&, ssize_t) {});
}

ssize_t write(int fd, const void* data, size_t bytes) {
  const FileFault fault = judge("write", path_of(fd));
  return act(
      fault, [&] { return ::write(fd, data, shortened(fault, bytes)); },
      [&](FileJournal& journal, ssize_t n) {
        journal.wrote(fd, {static_cast<const char*>(data), static_cast<size_t>(n)});
      });
}

int fsync(int fd) {
  return act(
      judge("fsync", path_of(fd)), [&] { return ::fcntl(fd, F_GETFD) < 0 ? -1 : 0; },
      [&](FileJournal& journal, int) { journal.synced(fd); });
}

int close(int fd) {
  const FileFault fault = judge("close", path_of(fd));
  if (fault.deed == Deed::kKill) die();
  {
    const std::lock_guard lock(state().mutex);
    state().open_paths.erase(fd);
    if (state().journal != nullptr) state().journal->closed(fd);
  }
  const int result = ::close(fd);
  return act(
      fault, [&] { return result; }, [](FileJournal&, int) {});
}

int rename(const char* from, const char* to) {
  return act(
      judge("rename", from, to), [&] { return ::rename(from, to); },
      [&](FileJournal& journal, int) { journal.renamed(from, to); });
}

int exchange(const char* a, const char* b) {
  return act(
      judge("exchange", a, b),
      [&] { return ::renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE); },
      [&](FileJournal& journal, int) { journal.exchanged(a, b); });
}

int unlink(const char* path) {
  return act(
      judge("unlink", path), [&] { return ::unlink(path); },
      [&](FileJournal& journal, int) { journal.removed(path); });
}

int mkdir(const char* path, mode_t mode) {
  return act(
      judge("mkdir", path), [&] { return ::mkdir(path, mode); },
      [&](FileJournal& journal, int) { journal.made_folder(path); });
}

int rmdir(const char* path) {
  return act(
      judge("rmdir", path), [&] { return ::rmdir(path); },
      [&](FileJournal& journal, int) { journal.removed(path); });
}

int flock(int fd, int operation) {
  return act(
      judge("flock", path_of(fd)), [&] { return ::flock(fd, operation); },
      [](FileJournal&, int) {});
}

}  // namespace file_ops
}  // namespace switchyard
