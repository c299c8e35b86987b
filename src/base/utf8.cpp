#include "base/utf8.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace switchyard {
namespace {

bool is_continuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

/// Bytes of the character at the start of `text`, 0 if it is not one.
size_t character_bytes(std::string_view text) {
  const auto at = [&text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return 1;
  const size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < size) return 0;
  for (size_t i = 1; i < size; ++i) {
    if (!is_continuation(at(i))) return 0;
  }
  // The second byte rules out overlong forms, surrogates and what is above U+10FFFF.
  if ((lead == 0xE0 && at(1) < 0xA0) || (lead == 0xED && at(1) > 0x9F)) return 0;
  if ((lead == 0xF0 && at(1) < 0x90) || (lead == 0xF4 && at(1) > 0x8F)) return 0;
  return size;
}

/// Offset of the first 8-byte word at or behind `at` that is not all ASCII, or nearer.
size_t skip_ascii(std::string_view text, size_t at) {
  for (uint64_t word; at + sizeof(word) <= text.size(); at += sizeof(word)) {
    std::memcpy(&word, text.data() + at, sizeof(word));
    if ((word & 0x8080808080808080ULL) != 0) break;
  }
  return at;
}

constexpr std::string_view kWhiteSpace[] = {
    "\t",           "\n",           "\v",           "\f",           "\r",           " ",
    "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81", "\xe2\x80\x82",
    "\xe2\x80\x83", "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86", "\xe2\x80\x87", "\xe2\x80\x88",
    "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f",
    "\xe3\x80\x80"};

/// Bytes of one white-space character, 0 if there is none.
size_t space_at_start(std::string_view text) {
  for (const std::string_view space : kWhiteSpace) {
    if (text.substr(0, space.size()) == space) return space.size();
  }
  return 0;
}

size_t space_at_end(std::string_view text) {
  for (const std::string_view space : kWhiteSpace) {
    if (text.size() >= space.size() && text.substr(text.size() - space.size()) == space)
      return space.size();
  }
  return 0;
}

}  // namespace

std::optional<size_t> first_invalid_utf8(std::string_view text) {
  for (size_t at = skip_ascii(text, 0); at < text.size();) {
    const size_t bytes = character_bytes(text.substr(at));
    if (bytes == 0) return at;
    at += bytes;
    if (bytes == 1) at = skip_ascii(text, at);
  }
  return std::nullopt;
}

size_t white_space_at_start(std::string_view text) {
  size_t bytes = 0;
  while (const size_t space = space_at_start(text.substr(bytes))) bytes += space;
  return bytes;
}

size_t white_space_at_end(std::string_view text) {
  size_t bytes = 0;
  while (const size_t space = space_at_end(text.substr(0, text.size() - bytes))) bytes += space;
  return bytes;
}

size_t line_of(std::string_view text, size_t offset) {
  return 1 + static_cast<size_t>(std::count(text.begin(), text.begin() + offset, '\n'));
}

}  // namespace switchyard
