#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "train/model_source.h"
#include "train/upcycled_source.h"

namespace switchyard {

/// What the dense models are made into.
///
///   kCopy, kNoise, kDrop  a mixture of experts: moe/upcycling.h. With several sources,
///                         Branch-Train-MiX (Sukhbaatar et al., arXiv:2403.07816): experts
///                         from each in turn, the mean of the rest, a new router
///   kAverage              a dense model: the weighted mean of the sources
///                         (Branch-Train-Merge, Li et al., arXiv:2208.03306)
enum class UpcycleMethod { kCopy, kNoise, kDrop, kAverage };

inline constexpr double kDefaultDropRatio = 0.5, kDefaultNoiseStd = 0.01;

/// The flags of `upcycle`, as given.
struct UpcycleOptions {
  UpcycleMethod method = UpcycleMethod::kCopy;
  std::string layers = "all";  // as moe.layers
  std::optional<int64_t> num_experts = {}, top_k = {}, granularity = {};
  std::optional<double> drop_ratio = {}, noise_std = {};  // none: the defaults above
  std::vector<double> weights = {};  // kAverage: of the sources; none: all alike
  double router_init_std = 0.02;
  bool normalize = true;
  bool sigmoid = false;  // DeepSeek-V3's router: sigmoid scores and a selection bias, zero at first
  ExpertScaling scaling = ExpertScaling::kExact;
  OptimizerState optimizer_state = OptimizerState::kDrop;
  bool shared_expert = false, shared_gate = false;
  uint64_t seed = 1234;
};

/// "copy", "exact", ...: the words of the flags.
const char* to_string(UpcycleMethod method);
const char* to_string(ExpertScaling scaling);

/// Throws ConfigError, naming the flag and the way out, for values that cannot be and flags
/// that contradict each other, whatever the sources are.
void check_options(const UpcycleOptions& options, size_t num_sources);

/// A model that is made of others, one tensor at a time as it is read: nothing is computed
/// until then. The sources must outlive it.
struct UpcycledModel {
  std::unique_ptr<TensorSource> trunk;  // the mean of several sources; null with one
  ModelSource model;                    // config, files and step of the first source, made over
  std::vector<std::string> remarks;     // what the user should know: no errors
};

/// Throws ConfigError when the options do not fit the sources: a model that has experts
/// already, sources of different architecture (every difference is named) or
/// tokenizers, a dense width that G does not divide, layers that are not there, moments
/// that a source lacks; DataError when a tensor is missing.
UpcycledModel upcycle(const std::vector<ModelSource>& sources, const UpcycleOptions& options);

}  // namespace switchyard
