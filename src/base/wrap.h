#pragma once

#include <string>
#include <string_view>

namespace switchyard {

/// `text` in lines of at most `width` letters, each after `indent` spaces and ended by a
/// newline. Breaks at spaces alone: a longer word has a line of its own.
std::string wrap(std::string_view text, size_t indent, size_t width);

}  // namespace switchyard
