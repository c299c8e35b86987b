#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "config/load_config.h"

namespace switchyard {

/// A folder of config files that lives as long as the test that made it.
class ConfigFolder {
 public:
  ConfigFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "config-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~ConfigFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ConfigFolder(const ConfigFolder&) = delete;
  ConfigFolder& operator=(const ConfigFolder&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(*this / name).parent_path());
    std::ofstream(*this / name) << text;
  }

  /// The text with this folder's path taken out: "run.yaml:3: ...".
  std::string without_path(std::string text) const {
    const std::string prefix = path_ + "/";
    for (size_t at = text.find(prefix); at != std::string::npos; at = text.find(prefix)) {
      text.erase(at, prefix.size());
    }
    return text;
  }

 private:
  std::string path_;
};

/// The message with which loading `run.yaml` fails; "" if it does not.
inline std::string complaint(const ConfigFolder& folder, const std::vector<std::string>& sets = {},
                             int world_size = 0) {
  try {
    load_config(folder / "run.yaml", sets, world_size);
    return "";
  } catch (const Error& error) {
    return folder.without_path(error.what());
  }
}

inline std::string complaint(const std::string& yaml, const std::vector<std::string>& sets = {},
                             int world_size = 0) {
  const ConfigFolder folder;
  folder.write("run.yaml", yaml);
  return complaint(folder, sets, world_size);
}

}  // namespace switchyard
