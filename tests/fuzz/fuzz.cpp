#include "fuzz/fuzz.h"

#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "fuzz/allocations.h"

namespace switchyard {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  uint64_t seed = 1, first = 0, runs = 10'000;
  double seconds = 0;  // 0: `runs` decides
  std::string save, accepted;
};

/// What the handlers of signals can print.
struct Current {
  char target[64] = "";
  uint64_t seed = 0;
  volatile uint64_t run = 0;
  volatile bool is_seed = true;
} current;

void tell_current() {
  char text[256];
  const int size =
      current.is_seed
          ? std::snprintf(text, sizeof text, "%s: in the seed of index %llu\n", current.target,
                          static_cast<unsigned long long>(current.run))
          : std::snprintf(text, sizeof text,
                          "%s: repeat with --seed %llu --first %llu --runs 1 (--save DIR)\n",
                          current.target, static_cast<unsigned long long>(current.seed),
                          static_cast<unsigned long long>(current.run));
  if (::write(STDERR_FILENO, text, static_cast<size_t>(size)) < 0) std::_Exit(1);
}

void on_crash(int signal) {
  tell_current();
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

/// Each second of processor time.
void on_tick(int) {
  static uint64_t last = UINT64_MAX;
  static bool last_was_seed = false;
  if (last == current.run && last_was_seed == current.is_seed) {
    constexpr char kText[] = "more than a second for one input\n";
    if (::write(STDERR_FILENO, kText, sizeof kText - 1) < 0) std::_Exit(1);
    std::abort();
  }
  last = current.run;
  last_was_seed = current.is_seed;
}

void install_handlers() {
  ::signal(SIGABRT, on_crash);
  ::signal(SIGPROF, on_tick);
  const itimerval every_second = {{1, 0}, {1, 0}};
  ::setitimer(ITIMER_PROF, &every_second, nullptr);
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i], value = argv[i + 1];
    if (flag == "--seed") {
      options.seed = std::stoull(value);
    } else if (flag == "--first") {
      options.first = std::stoull(value);
    } else if (flag == "--runs") {
      options.runs = std::stoull(value);
    } else if (flag == "--seconds") {
      options.seconds = std::stod(value);
    } else if (flag == "--save") {
      options.save = value;
    } else if (flag == "--accepted") {
      options.accepted = value;
    } else {
      throw std::invalid_argument(flag + ": see fuzz.h for the flags");
    }
  }
  if (argc % 2 == 0) throw std::invalid_argument("every flag has a value; see fuzz.h");
  return options;
}

size_t size_of(const Files& files) {
  size_t size = 0;
  for (const auto& [name, bytes] : files) size += bytes.size();
  return size;
}

void save(const Files& files, const std::string& folder) {
  std::filesystem::create_directories(folder);
  for (const auto& [name, bytes] : files) {
    std::ofstream(folder + "/" + name, std::ios::binary) << bytes;
  }
}

/// The parts of an input as one, behind their length.
void append(std::ofstream& out, const Files& files) {
  const uint64_t size = size_of(files);
  out.write(reinterpret_cast<const char*>(&size), sizeof(size));
  for (const auto& [name, bytes] : files) out << bytes;
}

/// One run of the program.
class Fuzzer {
 public:
  Fuzzer(FuzzTarget& target, const Options& options)
      : target_(target), options_(options), seeds_(target.seeds()), words_(target.words()) {}

  void check_seeds() {
    for (size_t i = 0; i < seeds_.size(); ++i) {
      current.run = i;
      const bool accepted = try_input(seeds_[i].files);
      if (seeds_[i].expected == Verdict::kEither) continue;
      if (accepted != (seeds_[i].expected == Verdict::kAccepted)) {
        throw Finding("the seed " + seeds_[i].name + (accepted ? " is accepted" : " is refused"));
      }
    }
  }

  void run() {
    const Clock::time_point start = Clock::now();
    current.is_seed = false;
    std::ofstream out;
    if (!options_.accepted.empty()) out.open(options_.accepted, std::ios::binary);
    for (uint64_t i = options_.first; !is_over(i, start); ++i) {
      current.run = i;
      const Files files = input(i);
      if (!options_.save.empty()) save(files, options_.save);
      const bool accepted = try_input(files);
      if (accepted && out.is_open()) append(out, files);
      accepted_ += accepted;
      ++runs_;
    }
    seconds_ = std::chrono::duration<double>(Clock::now() - start).count();
  }

  void report() const {
    std::printf(
        "%s: seed %llu, %zu seeds, %llu inputs in %.1f s (%.0f/s), %.1f%% accepted, at most %zu "
        "bytes at once and %zu in one piece\n",
        target_.name().c_str(), static_cast<unsigned long long>(options_.seed), seeds_.size(),
        static_cast<unsigned long long>(runs_), seconds_, static_cast<double>(runs_) / seconds_,
        100.0 * static_cast<double>(accepted_) / static_cast<double>(std::max<uint64_t>(runs_, 1)),
        most_.peak, most_.largest);
  }

 private:
  bool is_over(uint64_t run, Clock::time_point start) const {
    if (options_.seconds <= 0) return run >= options_.first + options_.runs;
    return std::chrono::duration<double>(Clock::now() - start).count() > options_.seconds;
  }

  Files input(uint64_t run) {
    Dice dice(options_.seed, run);
    Mutator mutator(dice, words_);
    Files files = dice.pick(seeds_).files;
    const Files& other = dice.pick(seeds_).files;
    do {
      mutate_one(files, other, dice, mutator);
    } while (dice.once_in(3));
    target_.repair(files, mutator, dice);
    return files;
  }

  static void mutate_one(Files& files, const Files& other, Dice& dice, Mutator& mutator) {
    if (files.empty() || other.empty()) return;
    const auto any = [&](auto& from) { return std::next(from.begin(), dice.below(from.size())); };
    const auto file = any(files);
    const auto theirs = any(other);
    if (files.size() == 1 || !dice.once_in(6)) {
      const auto same = other.find(file->first);
      const std::string& donor = same == other.end() ? theirs->second : same->second;
      file->second = mutator.mutate(std::move(file->second), donor);
      return;
    }
    switch (dice.below(4)) {
      case 0:
        files.erase(file);
        break;
      case 1:
        std::swap(file->second, any(files)->second);
        break;
      case 2:
        files[theirs->first] = theirs->second;
        break;
      default:
        file->second = theirs->second;
    }
  }

  bool try_input(const Files& files) {
    const size_t allowance = target_.allowance(size_of(files));
    bool accepted = true;
    restart_allocations();
    try {
      target_.run(files);
    } catch (const Error&) {
      accepted = false;
    }
    const Allocations used = allocations();
    most_ = {std::max(most_.largest, used.largest), std::max(most_.peak, used.peak)};
    if (used.peak > allowance) {
      throw Finding(std::to_string(used.peak) + " bytes at once for an input of " +
                    std::to_string(size_of(files)));
    }
    return accepted;
  }

  FuzzTarget& target_;
  Options options_;
  std::vector<Seed> seeds_;
  std::vector<std::string> words_;
  uint64_t runs_ = 0, accepted_ = 0;
  double seconds_ = 0;
  Allocations most_;
};

}  // namespace

FolderOnDisk::FolderOnDisk() {
  const char* root = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  path_ = std::string(root) + "/switchyard-fuzz-XXXXXX";
  if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error("cannot make " + path_);
}

FolderOnDisk::~FolderOnDisk() { std::filesystem::remove_all(path_); }

void FolderOnDisk::become(const Files& files) {
  for (const auto& [name, bytes] : held_) {
    if (!files.contains(name)) std::filesystem::remove(path_ + "/" + name);
  }
  for (const auto& [name, bytes] : files) {
    const auto found = held_.find(name);
    if (found != held_.end() && found->second == bytes) continue;
    std::ofstream out(path_ + "/" + name, std::ios::binary | std::ios::trunc);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  held_ = files;
}

std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

int fuzz_main(int argc, char** argv, FuzzTarget& target) {
  const Options options = parse(argc, argv);
  std::snprintf(current.target, sizeof current.target, "%s", target.name().c_str());
  current.seed = options.seed;
  install_handlers();
  try {
    Fuzzer fuzzer(target, options);
    fuzzer.check_seeds();
    fuzzer.run();
    fuzzer.report();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: FOUND: %s\n", current.target, error.what());
    tell_current();
    return 1;
  }
}

}  // namespace switchyard
