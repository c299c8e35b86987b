#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace switchyard {

/// The alphabet of GPT-2's byte-level BPE: every byte as one printable character, so
/// that a vocabulary can be written as text (a space is "\u0120"). Returns the bytes
/// that `token` spells, or nothing if a character of it is not of the alphabet.
std::optional<std::string> bytes_of_byte_level(std::string_view token);

/// The character that spells a byte, in UTF-8.
std::string byte_level_character(unsigned char byte);

}  // namespace switchyard
