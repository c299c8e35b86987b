#include "data/byte_level.h"

#include <array>
#include <cstdint>
#include <unordered_map>

namespace switchyard {
namespace {

/// The bytes that are their own character; the others are spelled from U+0100 on.
bool is_printable(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

std::array<std::string, 256> make_alphabet() {
  std::array<std::string, 256> alphabet;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const int code = is_printable(byte) ? byte : next++;
    if (code >= 0x80) alphabet[byte] += static_cast<char>(0xC0 | code >> 6);
    alphabet[byte] += static_cast<char>(code < 0x80 ? code : (0x80 | (code & 0x3F)));
  }
  return alphabet;
}

const std::array<std::string, 256>& alphabet() {
  static const std::array<std::string, 256> characters = make_alphabet();
  return characters;
}

std::unordered_map<std::string_view, char> make_inverse() {
  std::unordered_map<std::string_view, char> inverse;
  for (int byte = 0; byte < 256; ++byte) inverse[alphabet()[byte]] = static_cast<char>(byte);
  return inverse;
}

}  // namespace

std::optional<std::string> bytes_of_byte_level(std::string_view token) {
  static const std::unordered_map<std::string_view, char> inverse = make_inverse();
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const size_t size = static_cast<unsigned char>(token[at]) < 0x80 ? 1 : 2;
    const auto found = inverse.find(token.substr(at, size));
    if (found == inverse.end()) return std::nullopt;
    bytes += found->second;
    at += size;
  }
  return bytes;
}

std::string byte_level_character(unsigned char byte) { return alphabet()[byte]; }

}  // namespace switchyard
