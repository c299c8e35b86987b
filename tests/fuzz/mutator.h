#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

/// Random numbers that are a function of (seed, run) alone, the same on every machine.
class Dice {
 public:
  Dice(uint64_t seed, uint64_t run);

  uint64_t next();
  /// Uniform in [0, n); n > 0.
  size_t below(size_t n) { return static_cast<size_t>(next() % n); }
  /// True once in n.
  bool once_in(size_t n) { return below(n) == 0; }
  template <typename T>
  const T& pick(const std::vector<T>& values) {
    return values[below(values.size())];
  }

 private:
  uint64_t state_;
};

/// Edits bytes as a fuzzer does: some edits know nothing (bits, ranges), some know
/// numbers, lines and brackets, so that texts stay nearly right.
class Mutator {
 public:
  /// `words` are pieces that mean something to the reader.
  Mutator(Dice& dice, const std::vector<std::string>& words) : dice_(dice), words_(words) {}

  /// One to four edits. `other` is another input, to take pieces from. The result is at
  /// most 64 KiB longer than the longer of the two.
  std::string mutate(std::string bytes, std::string_view other);

  /// A number that readers trip over, as text: 0, -1, 2^63, 1e4, .nan, ...
  std::string number_text();
  /// The same as an integer of 64 bits.
  uint64_t number();

 private:
  void edit(std::string& bytes, std::string_view other);
  struct Range {
    size_t begin, size;
  };
  Range any_range(std::string_view bytes, size_t most);
  Range any_line(std::string_view bytes);
  Range any_digits(std::string_view bytes);
  Range any_value(std::string_view bytes);

  void edit_number(std::string& bytes);
  void edit_lines(std::string& bytes);
  void edit_values(std::string& bytes);
  void overwrite_integer(std::string& bytes);
  void splice(std::string& bytes, std::string_view other);

  Dice& dice_;
  const std::vector<std::string>& words_;
};

}  // namespace switchyard
