#include "fuzz/mutator.h"

#include <algorithm>
#include <cstring>

namespace switchyard {
namespace {

constexpr size_t kMaxGrowth = size_t{64} << 10;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// The end of the value that begins at `begin`: a string, a bracketed text, or a word.
size_t end_of_value(std::string_view bytes, size_t begin) {
  constexpr std::string_view kOpen = "[{", kClose = "]}";
  if (bytes[begin] == '"') {
    const size_t end = bytes.find('"', begin + 1);
    return end == std::string_view::npos ? bytes.size() : end + 1;
  }
  if (kOpen.find(bytes[begin]) == std::string_view::npos) {
    return std::min(bytes.size(), bytes.find_first_of(",]} \n", begin));
  }
  int depth = 0;
  for (size_t at = begin; at < bytes.size(); ++at) {
    if (kOpen.find(bytes[at]) != std::string_view::npos) ++depth;
    if (kClose.find(bytes[at]) != std::string_view::npos && --depth == 0) return at + 1;
  }
  return bytes.size();
}

}  // namespace

Dice::Dice(uint64_t seed, uint64_t run) : state_(seed * 0x9e3779b97f4a7c15u) {
  state_ = next() ^ run;
  next();
}

uint64_t Dice::next() {  // a counter, mixed until every bit depends on all (splitmix64)
  uint64_t mixed = state_ += 0x9e3779b97f4a7c15u;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
  return mixed ^ (mixed >> 31);
}

std::string Mutator::mutate(std::string bytes, std::string_view other) {
  const size_t most = std::max(bytes.size(), other.size()) + kMaxGrowth;
  for (size_t edits = 1 + dice_.below(4); edits > 0; --edits) edit(bytes, other);
  if (bytes.size() > most) bytes.resize(most);
  return bytes;
}

std::string Mutator::number_text() {
  static const std::vector<std::string> texts = {"0",
                                                 "1",
                                                 "-1",
                                                 "2",
                                                 "7",
                                                 "8",
                                                 "24",
                                                 "255",
                                                 "256",
                                                 "65535",
                                                 "65536",
                                                 "2147483647",
                                                 "2147483648",
                                                 "4294967295",
                                                 "4294967296",
                                                 "9223372036854775807",
                                                 "9223372036854775808",
                                                 "-9223372036854775808",
                                                 "18446744073709551615",
                                                 "18446744073709551616",
                                                 "1e4",
                                                 "1E400",
                                                 "1.5",
                                                 "-0.0",
                                                 "0.1",
                                                 ".inf",
                                                 "-.inf",
                                                 ".nan",
                                                 "0x10",
                                                 "0o17",
                                                 "1_000",
                                                 "1e-320",
                                                 "00",
                                                 "+1"};
  return dice_.once_in(4) ? std::to_string(number()) : dice_.pick(texts);
}

uint64_t Mutator::number() {
  const uint64_t power = uint64_t{1} << dice_.below(64);
  switch (dice_.below(5)) {
    case 0:
      return power;
    case 1:
      return power - 1;
    case 2:
      return power + 1;
    case 3:
      return dice_.below(300);
    default:
      return ~dice_.below(16);
  }
}

void Mutator::edit(std::string& bytes, std::string_view other) {
  const size_t at = dice_.below(bytes.size() + 1);
  if (at < bytes.size() && dice_.once_in(8)) bytes[at] ^= static_cast<char>(1 << dice_.below(8));
  switch (dice_.below(12)) {
    case 0:
      if (at < bytes.size()) bytes[at] = static_cast<char>(dice_.below(256));
      break;
    case 1: {
      const Range range = any_range(bytes, 8);
      bytes.erase(range.begin, range.size);
      break;
    }
    case 2: {
      const Range range = any_range(bytes, 200);
      bytes.insert(at, bytes.substr(range.begin, range.size));
      break;
    }
    case 3:
      if (!words_.empty()) bytes.insert(at, dice_.pick(words_));
      break;
    case 4:
      if (dice_.once_in(4)) bytes.resize(at);
      break;
    case 5:
    case 6:
      edit_number(bytes);
      break;
    case 7:
    case 8:
      edit_lines(bytes);
      break;
    case 9:
      edit_values(bytes);
      break;
    case 10:
      overwrite_integer(bytes);
      break;
    default:
      splice(bytes, other);
  }
}

Mutator::Range Mutator::any_range(std::string_view bytes, size_t most) {
  const size_t begin = dice_.below(bytes.size() + 1);
  return {begin, std::min(bytes.size() - begin, 1 + dice_.below(most))};
}

Mutator::Range Mutator::any_line(std::string_view bytes) {
  const size_t at = dice_.below(bytes.size() + 1);
  const size_t before = at == 0 ? std::string_view::npos : bytes.rfind('\n', at - 1);
  const size_t begin = before == std::string_view::npos ? 0 : before + 1;
  const size_t end = bytes.find('\n', begin);
  return {begin, (end == std::string_view::npos ? bytes.size() : end + 1) - begin};
}

Mutator::Range Mutator::any_digits(std::string_view bytes) {
  size_t begin = dice_.below(bytes.size() + 1);
  while (begin < bytes.size() && !is_digit(bytes[begin])) ++begin;
  size_t end = begin;
  while (end < bytes.size() && is_digit(bytes[end])) ++end;
  return {begin, end - begin};
}

Mutator::Range Mutator::any_value(std::string_view bytes) {
  const size_t begin = bytes.find_first_of("\"[{:", dice_.below(bytes.size() + 1));
  if (begin == std::string_view::npos) return {0, 0};
  const size_t from = bytes[begin] == ':' && begin + 1 < bytes.size() ? begin + 1 : begin;
  return {from, end_of_value(bytes, from) - from};
}

void Mutator::edit_number(std::string& bytes) {
  const Range digits = any_digits(bytes);
  if (digits.size == 0) return;
  if (dice_.once_in(2)) {
    bytes[digits.begin + dice_.below(digits.size)] = static_cast<char>('0' + dice_.below(10));
  } else {
    bytes.replace(digits.begin, digits.size, number_text());
  }
}

void Mutator::edit_lines(std::string& bytes) {
  const Range line = any_line(bytes);
  const std::string text = bytes.substr(line.begin, line.size);
  switch (dice_.below(4)) {
    case 0:
      bytes.erase(line.begin, line.size);
      break;
    case 1:
      bytes.insert(line.begin, std::string(1 + dice_.below(4), ' '));
      break;
    case 2:
      if (!text.empty() && text[0] == ' ') bytes.erase(line.begin, 1 + dice_.below(2));
      break;
    default:
      bytes.insert(any_line(bytes).begin, text);
  }
}

void Mutator::edit_values(std::string& bytes) {
  const Range from = any_value(bytes), to = any_value(bytes);
  const std::string value = dice_.once_in(3) ? number_text() : bytes.substr(from.begin, from.size);
  bytes.replace(to.begin, dice_.once_in(2) ? to.size : 0, value);
}

void Mutator::overwrite_integer(std::string& bytes) {
  const size_t width = size_t{1} << dice_.below(4);
  if (bytes.size() < width) return;
  const uint64_t value = number();
  std::memcpy(bytes.data() + dice_.below(bytes.size() - width + 1), &value, width);
}

void Mutator::splice(std::string& bytes, std::string_view other) {
  const Range here = any_range(bytes, 100), there = any_range(other, 100);
  bytes.replace(here.begin, here.size, other.substr(there.begin, there.size));
}

}  // namespace switchyard
