#pragma once

#include <string_view>

namespace switchyard {

/// A file of src/report/page or D3, put into the program by embed.cmake at build time. "" if there
/// is none.
std::string_view page_part(std::string_view name);

}  // namespace switchyard
