#pragma once

#include <string>
#include <string_view>

namespace switchyard {

/// Unicode's normal form C (UAX 15) of valid UTF-8. Returns `text` itself when it is
/// in that form, which costs one pass and no memory; otherwise `storage`, filled.
std::string_view to_nfc(std::string_view text, std::string& storage);

}  // namespace switchyard
