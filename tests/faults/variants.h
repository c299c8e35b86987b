#pragma once

#include <unistd.h>

#include <cstdlib>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/sample_folder.h"

namespace switchyard {

/// Whether the tests are to try everything, not a sample.
inline bool is_torture() { return std::getenv("SWITCHYARD_TORTURE") != nullptr; }

/// In memory where the system has a folder there: these tests write much and wait for
/// no disk.
class MemoryFolder : public ScratchFolder {
 public:
  MemoryFolder()
      : ScratchFolder(::access("/dev/shm", W_OK) == 0 ? "/dev/shm/" : testing::TempDir()) {}
};

/// The sample model with other numbers for every variant of 0 to 127, equal in all
/// but the low bits of each element, so that finite ones stay finite.
inline std::vector<SampleTensor> sample_variant(int variant) {
  std::vector<SampleTensor> model = sample_model();
  for (SampleTensor& tensor : model) {
    for (size_t i = 0; i < tensor.bytes.size(); i += tensor.element_bytes()) {
      tensor.bytes[i] = static_cast<unsigned char>(tensor.bytes[i] ^ variant);
    }
  }
  return model;
}

/// Saves a variant as `world` ranks would; what each rank threw, "" for nothing.
inline std::vector<std::string> save_variant(const std::string& checkpoints_dir, int64_t step,
                                             int variant, int world) {
  const std::vector<SampleTensor> model = sample_variant(variant);
  return run_ranks(world, [&](Communicator& communicator) {
    CheckpointInfo info = sample_info(step, world);
    info.state["variant"] = variant;
    try {
      save_checkpoint(communicator, checkpoints_dir, info,
                      owned_by(communicator.rank(), world, model));
    } catch (const DataError&) {
      throw;
    } catch (const std::exception& error) {
      throw std::logic_error(std::string("not a DataError: ") + error.what());
    }
  });
}

/// "step 2, variant 1", what save_variant has saved, when every byte is that variant's;
/// "" for no checkpoint; else what is wrong.
inline std::string describe(const std::string& step_dir, Digests digests = Digests::kCheck) {
  if (step_dir.empty()) return "";
  CheckpointReader reader(step_dir, digests);
  const int variant = reader.manifest().state.at("variant");
  for (const SampleTensor& tensor : sample_variant(variant)) {
    std::vector<unsigned char> bytes(tensor.bytes.size());
    reader.read(tensor.name, tensor.dtype, 0, tensor.elements(), bytes.data());
    if (bytes != tensor.bytes) return step_dir + ": " + tensor.name + " has other bytes";
  }
  return "step " + std::to_string(reader.manifest().step) + ", variant " + std::to_string(variant);
}

/// What a run that resumes from this folder gets.
inline std::string describe_newest(const std::string& checkpoints_dir) {
  try {
    return describe(newest_valid(checkpoints_dir, /*complaints=*/nullptr));
  } catch (const DataError& error) {
    return error.what();
  }
}

/// What a tool that knows nothing but `latest` gets.
inline std::string describe_latest(const std::string& checkpoints_dir) {
  const std::string pointer = checkpoints_dir + "/latest";
  if (!path_exists(pointer)) return "";
  try {
    const std::string name = read_file(pointer);
    return describe(checkpoints_dir + "/" + name.substr(0, name.find('\n')));
  } catch (const DataError& error) {
    return error.what();
  }
}

/// What a command that is given this folder gets.
inline std::string describe_resolved(const std::string& checkpoints_dir) {
  try {
    return describe(resolve_checkpoint(checkpoints_dir));
  } catch (const DataError& error) {
    return error.what();
  }
}

}  // namespace switchyard
