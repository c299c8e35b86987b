#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace switchyard {

/// Offset of the first byte that does not belong to valid UTF-8 (RFC 3629: no
/// overlong forms, no surrogates, nothing above U+10FFFF); nothing if all do.
std::optional<size_t> first_invalid_utf8(std::string_view text);

/// Bytes of Unicode White_Space at either end of valid UTF-8.
size_t white_space_at_start(std::string_view text);
size_t white_space_at_end(std::string_view text);

/// One-based line of a byte, for messages.
size_t line_of(std::string_view text, size_t offset);

}  // namespace switchyard
