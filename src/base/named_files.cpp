#include "base/named_files.h"

namespace switchyard {

const std::string* find_file(const NamedFiles& files, const std::string& name) {
  for (const auto& [there, contents] : files) {
    if (there == name) return &contents;
  }
  return nullptr;
}

}  // namespace switchyard
