#pragma once

#include <string>
#include <vector>

#include "config/document.h"

namespace switchyard {

/// A config file with its `extends` chain and the `--set`s of the command line
/// laid over each other: one mapping, later wins, each value with its place.
///
/// What cannot be read is in `document.issues`. Throws DataError for a file that
/// is missing or unreadable; for an `extends` it names both files.
Document read_sources(const std::string& path, const std::vector<std::string>& sets);

/// The same of a text, which may not extend anything.
Document read_text(const std::string& text, const std::string& origin);

}  // namespace switchyard
