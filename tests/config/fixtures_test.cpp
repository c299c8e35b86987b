#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "config/load_config.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

/// The first line of a wrong config: `# expect: EXITCODE SUBSTRING`.
struct Expectation {
  int exit_code = 0;
  std::string message;
};

Expectation expectation_of(const fs::path& path) {
  std::ifstream file(path);
  std::string hash;
  std::string word;
  Expectation expectation;
  file >> hash >> word >> expectation.exit_code >> std::ws;
  std::getline(file, expectation.message);
  EXPECT_EQ(hash + " " + word, "# expect:") << path;
  return expectation;
}

std::vector<fs::path> wrong_configs() {
  std::vector<fs::path> paths;
  for (const auto& entry :
       fs::directory_iterator(SWITCHYARD_SOURCE_DIR "/tests/config/fixtures/bad")) {
    if (entry.path().extension() == ".yaml") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

TEST(Fixtures, EveryWrongConfigFailsAsItSaysOnEveryWorld) {
  const std::vector<fs::path> paths = wrong_configs();
  EXPECT_GE(paths.size(), 30u);
  for (const fs::path& path : paths) {
    const Expectation expectation = expectation_of(path);
    for (const int world_size : {1, 2, 4}) {
      try {
        load_config(path.string(), {}, world_size);
        ADD_FAILURE() << path << " was accepted";
      } catch (const Error& error) {
        EXPECT_EQ(error.exit_code, expectation.exit_code) << path;
        EXPECT_NE(std::string(error.what()).find(expectation.message), std::string::npos)
            << path << "\n"
            << error.what();
      }
    }
  }
}

}  // namespace
}  // namespace switchyard
