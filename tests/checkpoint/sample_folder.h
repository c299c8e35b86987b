#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "base/scratch_folder.h"
#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/sample.h"
#include "checkpoint/step_folder.h"
#include "checkpoint/thread_world.h"

namespace switchyard {

/// Saves the sample as `world` ranks would; returns the step's folder.
inline std::string save_sample(const std::string& checkpoints_dir, int64_t step, int world) {
  const std::vector<SampleTensor> model = sample_model();
  const std::vector<std::string> thrown = run_ranks(world, [&](Communicator& communicator) {
    save_checkpoint(communicator, checkpoints_dir, sample_info(step, world),
                    owned_by(communicator.rank(), world, model));
  });
  for (const std::string& message : thrown) EXPECT_EQ(message, "");
  return checkpoints_dir + "/" + step_folder_name(step);
}

/// Whether a checkpoint holds the tensors, byte for byte.
inline void expect_holds(const std::string& step_dir, const std::vector<SampleTensor>& model) {
  CheckpointReader reader(step_dir);
  for (const SampleTensor& tensor : model) {
    std::vector<unsigned char> bytes(tensor.bytes.size());
    reader.read(tensor.name, tensor.dtype, 0, tensor.elements(), bytes.data());
    EXPECT_EQ(bytes, tensor.bytes) << tensor.name;
  }
}

/// Changes one bit of a file in place.
inline void flip_bit(const std::string& path, size_t byte, int bit) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(byte));
  const int before = file.get();
  ASSERT_NE(before, std::char_traits<char>::eof()) << path << " has no byte " << byte;
  file.seekp(static_cast<std::streamoff>(byte));
  file.put(static_cast<char>(before ^ (1 << bit)));
}

}  // namespace switchyard
