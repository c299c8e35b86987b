#include "model/layout_search.h"

#include <algorithm>
#include <tuple>

#include "config/load_config.h"

namespace switchyard {
namespace {

bool has_experts(const RunConfig& config) {
  return !moe_layer_indices(config.moe, config.model.num_hidden_layers).empty();
}

/// Every layout of `ranks` ranks, with its memory, the best to take first.
std::vector<Layout> layouts(const RunConfig& config, at::ScalarType compute, int64_t ranks,
                            const Budget& budget) {
  std::vector<Layout> all;
  const int64_t batch = config.train.global_batch_size;
  if (batch % ranks != 0) return all;
  const int64_t most_expert = has_experts(config) ? config.moe.num_experts : 1;
  for (int64_t micro = config.train.micro_batch_size; micro >= 1; micro /= 2) {
    if (batch % (ranks * micro) != 0 || micro % config.moe.group_sequences != 0) continue;
    for (const int64_t stage : {1, 2, 0}) {
      if (ranks == 1 && stage != 1) continue;
      for (int64_t expert = 1; expert <= std::min(ranks, most_expert); ++expert) {
        if (ranks % expert != 0 || config.moe.num_experts % expert != 0) continue;
        Layout layout{ranks, expert, stage, micro, {}};
        layout.memory = budget.plan(with_layout(config, layout), compute, ranks);
        all.push_back(layout);
      }
    }
  }
  return all;
}

}  // namespace

MemoryPlan Budget::plan(const RunConfig& config, at::ScalarType compute, int64_t ranks) const {
  MemoryPlan memory = plan_memory(config, compute, ranks);
  if (!host) return on_device(memory);
  memory.program = program;
  return memory;
}

RunConfig with_layout(RunConfig config, const Layout& layout) {
  config.parallel.expert = layout.expert;
  config.zero.stage = layout.zero_stage;
  config.train.micro_batch_size = layout.micro_batch_size;
  return config;
}

std::string set_flags(const Layout& layout) {
  return "--set parallel.expert=" + std::to_string(layout.expert) +
         " --set zero.stage=" + std::to_string(layout.zero_stage) +
         " --set train.micro_batch_size=" + std::to_string(layout.micro_batch_size);
}

std::vector<Layout> fitting_layouts(const RunConfig& config, at::ScalarType compute, int64_t ranks,
                                    const Budget& budget) {
  std::vector<Layout> fitting = layouts(config, compute, ranks, budget);
  std::erase_if(fitting,
                [&](const Layout& layout) { return layout.memory.total() > budget.bytes(ranks); });
  return fitting;
}

std::vector<Layout> smallest_fitting(const RunConfig& config, at::ScalarType compute,
                                     const Budget& budget) {
  for (int64_t ranks = 1; ranks <= config.train.global_batch_size; ++ranks) {
    std::vector<Layout> fitting = fitting_layouts(config, compute, ranks, budget);
    if (!fitting.empty()) return fitting;
  }
  return {};
}

std::optional<Layout> leanest_layout(const RunConfig& config, at::ScalarType compute, int64_t ranks,
                                     const Budget& budget) {
  const std::vector<Layout> all = layouts(config, compute, ranks, budget);
  const auto least =
      std::ranges::min_element(all, {}, [](const Layout& layout) { return layout.memory.total(); });
  if (least == all.end()) return std::nullopt;
  return *least;
}

}  // namespace switchyard
