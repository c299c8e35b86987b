#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "model/device_table.h"
#include "model/memory_plan.h"

namespace switchyard {

/// One way to share a config's training out.
struct Layout {
  int64_t ranks = 1, expert = 1, zero_stage = 1, micro_batch_size = 1;
  MemoryPlan memory;

  bool operator==(const Layout& other) const {
    return ranks == other.ranks && expert == other.expert && zero_stage == other.zero_stage &&
           micro_batch_size == other.micro_batch_size;
  }
};

/// The config under a layout.
RunConfig with_layout(RunConfig config, const Layout& layout);

/// "--set parallel.expert=8 --set zero.stage=1 --set train.micro_batch_size=1"
std::string set_flags(const Layout& layout);

/// What a layout has to fit into: bytes of one rank's memory, headroom taken off, and of
/// those what the program itself takes.
struct Budget {
  std::function<int64_t(int64_t ranks)> bytes;  // by the ranks of the run
  int64_t program = 0;
  bool host = true;  // memory of the host, else of a device of its own

  /// The memory of a config within this budget, with the program's part.
  MemoryPlan plan(const RunConfig& config, at::ScalarType compute, int64_t ranks) const;
};

/// Layouts of `ranks` ranks that fit with balanced routing: EP a divisor of the ranks and of
/// the experts (1 without experts), ZeRO 0 to 2 (one rank: 1), the micro-batch the config's
/// own or that halved until a routing group no longer fits. The first is the one to take:
/// the config's micro-batch rather than a smaller one, ZeRO-1 (the traffic of stage 0 and
/// less memory) rather than 2, which reduces in every micro-batch, and those rather than 0;
/// then the smallest EP, so that most tokens stay where they are.
std::vector<Layout> fitting_layouts(const RunConfig& config, at::ScalarType compute, int64_t ranks,
                                    const Budget& budget);

/// The fewest ranks for which a layout fits; they divide the global batch. Empty: none.
std::vector<Layout> smallest_fitting(const RunConfig& config, at::ScalarType compute,
                                     const Budget& budget);

/// The layout of `ranks` that needs least, fitting or not; none divides the batch: empty.
std::optional<Layout> leanest_layout(const RunConfig& config, at::ScalarType compute, int64_t ranks,
                                     const Budget& budget);

}  // namespace switchyard
