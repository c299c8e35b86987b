#pragma once

#include <gtest/gtest.h>

#include "base/scratch_folder.h"
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

/// Changes one bit of a file in place.
inline void flip_bit(const std::string& path, size_t byte, int bit) {
  std::string bytes = read_file(path);
  bytes.at(byte) = static_cast<char>(bytes[byte] ^ (1 << bit));
  FileWriter file(path);
  file.append(bytes);
  file.close();
}

}  // namespace switchyard
