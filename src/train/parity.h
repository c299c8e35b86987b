#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "distributed/runtime.h"

namespace switchyard {

/// Ranks, expert-parallel degree, accumulation and ZeRO stage: "4x2", "4x2a4", "4x2z2" or
/// "4x2a4z2". Without an accumulation the micro-batch is the largest that fits and is not
/// above the config's; without a stage it is the config's.
struct Layout {
  int ranks = 1;
  int expert = 1;
  int accumulation = 0;           // 0: from the config's micro-batch
  std::optional<int> zero_stage;  // none: the config's
  std::string text;
};

/// Throws ConfigError for a text that is not a layout.
std::vector<Layout> parse_layouts(const std::string& text);

/// Mistakes that `parity` can make on purpose in every layout but the first, to
/// show that it would find them: the kinds that other trainers have had.
enum class Plant { kNone, kExpertMean, kNormTwice, kBalanceTimesMicro, kCapacityRank };
Plant parse_plant(const std::string& word);

/// One world's part of the comparison: `steps` times, computes the gradients of
/// the next global batch in float32 from the first layout's weights and writes
/// them with losses, norms, routing and sample ids under `folder`. The first
/// layout (`reference`) also writes the weights and takes the optimizer step.
/// Collective over the job.
void run_parity_worker(const Runtime& runtime, RunConfig config, const Layout& layout,
                       int64_t steps, const std::string& folder, bool reference, Plant plant);

/// Reads what two worlds wrote and compares them: the largest relative
/// difference of loss (and router losses), of norms and of a gradient tensor
/// (norm of the difference over the norm), routing choices that flipped, whether
/// the same tokens were dropped and the same samples read.
nlohmann::json compare_layouts(const std::string& folder, const Layout& reference,
                               const Layout& other, int64_t steps, int64_t group_sequences);

/// The relative difference below which `parity` calls losses, norms and gradients equal.
inline constexpr double kParityTolerance = 1e-5;

}  // namespace switchyard
