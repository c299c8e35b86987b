#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/file.h"

namespace switchyard {

/// A folder of the running test, gone at its end.
class TempFolder {
 public:
  TempFolder() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    path_ =
        (std::filesystem::temp_directory_path() / (std::string(test->test_suite_name()) + "." +
                                                   test->name() + "." + std::to_string(getpid())))
            .string();
    remove_tree(path_);
    make_folders(path_);
  }
  ~TempFolder() { remove_tree(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

  /// Writes a file and returns its path.
  std::string write(const std::string& name, std::string_view bytes) const {
    FileWriter file(*this / name);
    file.append(bytes);
    file.close();
    return file.path();
  }

 private:
  std::string path_;
};

/// The text of what `action` throws as an Error; empty if it throws none.
template <typename Thrown, typename Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const Thrown& error) {
    return error.what();
  }
  return "";
}

}  // namespace switchyard
