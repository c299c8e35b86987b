// What tests/python/checkpoint drives:
//
//   checkpoint_tool save DIR WORLD    saves the sample at step 1, as WORLD ranks
//   checkpoint_tool large DIR MIB     saves tensors of MIB mebibytes together at step 1,
//                                     in the memory of a fourth of it
//   checkpoint_tool write FILE        writes a small safetensors file
//   checkpoint_tool check LIST        for each path in the file LIST: "yes", or "no"
//                                     and why SafetensorsReader refuses it
#include <fstream>
#include <iostream>
#include <string>

#include "base/error.h"
#include "base/safetensors.h"
#include "checkpoint/sample_folder.h"

namespace switchyard {
namespace {

void save_large(const std::string& dir, uint64_t bytes) {
  const auto floats = static_cast<int64_t>(bytes / 4 / sizeof(float));
  std::vector<float> values(floats);
  const RandomStream stream(7, "large");
  for (int64_t i = 0; i < floats; ++i) values[i] = i % 1024 == 0 ? stream.uniform(i) : i;
  std::vector<OwnedSlice> slices;
  for (const char* name : {"a", "b", "c", "d"}) {
    slices.push_back({name, {floats}, "F32", "dense", 0, floats, values.data()});
  }
  run_ranks(1, [&](Communicator& world) {
    save_checkpoint(world, dir, sample_info(/*step=*/1, /*world=*/1), slices);
  });
}

void write_file(const std::string& path) {
  const float floats[] = {1.5f, -2, 0, 3, 4, 5};
  const int64_t integer = -7;
  SafetensorsWriter writer(path, {{"scalar", "I64", {}},
                                  {"name with \"quotes\" and \u00e9", "F32", {2, 3}},
                                  {"empty", "F32", {0, 3}}});
  writer.append(&integer, sizeof(integer));
  writer.append(floats, sizeof(floats));
  writer.finish();
}

void check_files(const std::string& list) {
  std::ifstream paths(list);
  for (std::string path; std::getline(paths, path);) {
    try {
      const SafetensorsReader reader(path);
      std::cout << "yes\n";
    } catch (const DataError& error) {
      std::string why = error.what();
      std::replace(why.begin(), why.end(), '\n', ' ');
      std::cout << "no " << why << "\n";
    }
  }
}

int run(const std::vector<std::string>& arguments) {
  const std::string command = arguments.empty() ? "" : arguments[0];
  if (command == "save" && arguments.size() == 3) {
    save_sample(arguments[1], /*step=*/1, std::stoi(arguments[2]));
  } else if (command == "large" && arguments.size() == 3) {
    save_large(arguments[1], std::stoull(arguments[2]) << 20);
  } else if (command == "write" && arguments.size() == 2) {
    write_file(arguments[1]);
  } else if (command == "check" && arguments.size() == 2) {
    check_files(arguments[1]);
  } else {
    std::cerr << "see the head of checkpoint_tool.cpp\n";
    return 2;
  }
  return testing::Test::HasFailure() ? 1 : 0;
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  return switchyard::run(std::vector<std::string>(argv + 1, argv + argc));
}
