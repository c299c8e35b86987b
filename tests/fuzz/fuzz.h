#pragma once

#include <cstddef>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "fuzz/mutator.h"

namespace switchyard {

// A fuzz target is an executable that gives mutated inputs to one of our readers:
//
//   fuzz_safetensors [--seed S] [--runs N | --seconds T] [--first I] [--save DIR]
//                    [--accepted FILE]
//
// Run I of seed S is always the same input; what a finding prints repeats it, and --save
// writes it out. --accepted collects the inputs that were taken, each behind its length in 8
// bytes. First of all come the seeds as they are, whose verdict is known. A finding
// ends the program with a code that is not 0:
//
//   - a crash, or a report of a sanitizer (scripts/fuzz.sh builds with both)
//   - an exception that is no switchyard::Error
//   - Finding: the target's own oracle
//   - more memory at once than allowance()
//   - more than a second of processor time for one input

/// What a reader must not do.
struct Finding : std::logic_error {
  using std::logic_error::logic_error;
};

/// An input: the files that the reader is given, or the parts of one.
using Files = std::map<std::string, std::string>;

enum class Verdict { kEither, kAccepted, kRefused };

struct Seed {
  std::string name;
  Files files;
  Verdict expected = Verdict::kEither;
};

class FuzzTarget {
 public:
  virtual ~FuzzTarget() = default;

  virtual std::string name() const = 0;
  virtual std::vector<Seed> seeds() = 0;
  /// Pieces that mean something to the reader.
  virtual std::vector<std::string> words() const { return {}; }
  /// May mend what the mutations broke (a length, a digest), to get behind the first check.
  virtual void repair(Files&, Mutator&, Dice&) {}
  /// Reads the input. Throws Error when it is refused, Finding when it should have been or
  /// was misread.
  virtual void run(const Files& files) = 0;
  /// Bytes that `run` may have allocated at once.
  virtual size_t allowance(size_t input_bytes) const {
    return (size_t{3} << 20) + 64 * input_bytes;
  }
};

/// Files in a folder of their own, in memory where the system has /dev/shm.
class FolderOnDisk {
 public:
  FolderOnDisk();
  ~FolderOnDisk();
  FolderOnDisk(const FolderOnDisk&) = delete;
  FolderOnDisk& operator=(const FolderOnDisk&) = delete;

  const std::string& path() const { return path_; }
  /// Makes the folder hold these files and nothing else. Writes only what has changed.
  void become(const Files& files);

 private:
  std::string path_;
  Files held_;
};

/// The bytes of one file.
std::string slurp(const std::string& path);

/// The whole program.
int fuzz_main(int argc, char** argv, FuzzTarget& target);

}  // namespace switchyard
