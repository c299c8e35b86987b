#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

// Numbers and words between YAML's text and C++, exactly and independently of
// the locale.

namespace switchyard {

/// A decimal integer that takes up the whole text, with an optional sign.
/// Nothing for 1.5, 1e3, 1_000, 0x10 and what does not fit into 64 bits.
std::optional<int64_t> parse_integer(std::string_view text);

/// A finite decimal number that takes up the whole text: 1, 0.1, .5, 1e-3.
/// Nothing for .inf, .nan, 1_000 and what does not fit into a double.
std::optional<double> parse_real(std::string_view text);

/// `true` or `false`, also capitalised.
std::optional<bool> parse_bool(std::string_view text);

/// The shortest text that reads back to the same double: 0.001, 1.0e-08.
std::string format_real(double value);

/// The text as a YAML scalar that reads back as text and not as a number, null
/// or bool: plain where that is safe, else in double quotes.
std::string format_text(std::string_view text);

}  // namespace switchyard
