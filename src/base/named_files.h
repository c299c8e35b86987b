#pragma once

#include <string>
#include <utility>
#include <vector>

namespace switchyard {

/// Small files by name and contents: what a checkpoint or a folder holds beside tensors.
using NamedFiles = std::vector<std::pair<std::string, std::string>>;

/// A file's contents, or null when there is none of that name.
const std::string* find_file(const NamedFiles& files, const std::string& name);

}  // namespace switchyard
