#include "train/upcycle.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/error.h"
#include "config/join.h"
#include "config/load_config.h"
#include "ops/activation.h"
#include "train/averaged_source.h"

namespace switchyard {
namespace {

std::string text(int64_t number) { return std::to_string(number); }

std::string text(double number) {
  char digits[32];
  std::snprintf(digits, sizeof(digits), "%.3g", number);
  return digits;
}

[[noreturn]] void refuse(const std::string& what) { throw ConfigError(what); }

/// A flag that only one method reads.
void check_belongs(bool given, const char* flag, UpcycleMethod method, UpcycleMethod reader) {
  if (given && method != reader) {
    refuse(std::string(flag) + " is for --method " + to_string(reader) + ", not " +
           to_string(method));
  }
}

void check_average(const UpcycleOptions& options, size_t num_sources) {
  const std::pair<bool, const char*> of_experts[] = {
      {options.num_experts.has_value(), "--num-experts"},
      {options.top_k.has_value(), "--top-k"},
      {options.granularity.has_value(), "--granularity"},
      {options.shared_expert, "--shared-expert"},
      {options.layers != "all", "--layers"}};
  for (const auto& [given, flag] : of_experts) {
    if (given) refuse(std::string(flag) + ": --method average makes a dense model; leave it out");
  }
  if (num_sources < 2) refuse("--method average: needs two --from or more");
  if (options.weights.empty()) return;
  if (options.weights.size() != num_sources) {
    refuse("--weights: " + text(static_cast<int64_t>(options.weights.size())) + " weights for " +
           text(static_cast<int64_t>(num_sources)) + " sources; give one for each --from");
  }
  double sum = 0;
  for (const double weight : options.weights) {
    if (!(weight >= 0) || std::isinf(weight)) refuse("--weights: must be numbers of 0 or more");
    sum += weight;
  }
  if (sum == 0) refuse("--weights: all are 0");
}

void check_experts(const UpcycleOptions& options) {
  if (!options.num_experts) refuse("--num-experts is required");
  if (!options.top_k) refuse("--top-k is required");
  const int64_t E = *options.num_experts, K = *options.top_k, G = options.granularity.value_or(1);
  if (E < 1) refuse("--num-experts: must be at least 1, got " + text(E));
  if (K < 1) refuse("--top-k: must be at least 1, got " + text(K));
  if (K > E) {
    refuse("--top-k: " + text(K) + " is more than --num-experts " + text(E) + "; use at most " +
           text(E));
  }
  if (options.sigmoid && !options.normalize) {
    refuse(
        "--no-normalize: sigmoid scores sum to no number that is known; use --normalize, or "
        "--router-score softmax");
  }
  if (G < 1) refuse("--granularity: must be at least 1, got " + text(G));
  if (E % G != 0) {
    refuse("--num-experts: " + text(E) + " is not a multiple of --granularity " + text(G) +
           ", which makes whole networks of " + text(G) + " experts each; use " +
           text((E / G + 1) * G));
  }
}

void check_numbers(const UpcycleOptions& options) {
  if (options.drop_ratio && !(*options.drop_ratio > 0 && *options.drop_ratio <= 1)) {
    refuse("--drop-ratio: must be above 0 and at most 1, got " + text(*options.drop_ratio));
  }
  if (options.noise_std && !(*options.noise_std > 0 && std::isfinite(*options.noise_std))) {
    refuse("--noise-std: must be above 0, got " + text(*options.noise_std));
  }
  if (!(options.router_init_std > 0 && std::isfinite(options.router_init_std))) {
    refuse(
        "--router-init-std: must be above 0 (equal logits would send every token to the same "
        "experts), got " +
        text(options.router_init_std));
  }
}

// ------------------------------------------------------------------ against the sources

void check_dense(const ModelSource& source) {
  const MoeConfig& moe = source.config.moe;
  if (moe_layer_indices(moe, source.config.model.num_hidden_layers).empty()) return;
  refuse("--from: " + source.path() + " has experts already (moe.layers " + moe.layers + ", " +
         text(moe.num_experts) + " experts); only a dense model can be upcycled");
}

/// The architecture alone, without what only training looks at.
RunConfig architecture(const ModelConfig& model) {
  RunConfig only;
  only.model = model;
  only.model.dropout = 0;
  only.model.init_std = 1;
  return only;
}

void check_same_architecture(const ModelSource& first, const ModelSource& other) {
  const std::vector<std::string> lines =
      differences(architecture(first.config.model), architecture(other.config.model));
  if (!lines.empty()) {
    refuse("--from: " + first.path() + " (here) and " + other.path() +
           " (there) are different models: " + join(lines, "; "));
  }
  if (first.meta && other.meta && !same_tokenizer(*first.meta, *other.meta)) {
    refuse("--from: " + first.path() + " and " + other.path() +
           " have different tokenizers; branches must come from one seed");
  }
}

void check_sources(const std::vector<ModelSource>& sources) {
  for (const ModelSource& source : sources) {
    check_dense(source);
    check_same_architecture(sources.front(), source);
  }
}

void check_moments(const std::vector<ModelSource>& sources) {
  if (sources.size() > 1) {
    refuse("--optimizer-state carry: the moments of several runs cannot be put together; use drop");
  }
  const TensorSource& tensors = *sources.front().tensors;
  for (const TensorInfo& tensor : tensors.tensors()) {
    if (!is_weight(tensor)) continue;
    if (tensors.has(tensor.name + ".exp_avg") && tensors.has(tensor.name + ".exp_avg_sq")) continue;
    refuse("--optimizer-state carry: " + tensors.path() + " has no moments for \"" + tensor.name +
           "\" (a Hugging Face folder has none); use drop");
  }
}

MoeConfig moe_config(const ModelConfig& model, const UpcycleOptions& options) {
  const int64_t F = model.intermediate_size, G = options.granularity.value_or(1);
  if (F % G != 0) {
    refuse("--granularity: " + text(G) + " does not divide the dense intermediate_size " + text(F));
  }
  MoeConfig moe;
  moe.layers = options.layers;
  moe.num_experts = *options.num_experts;
  moe.top_k = *options.top_k;
  moe.expert_intermediate_size = F / G;
  moe.router.normalize = options.normalize;
  if (options.sigmoid) {
    moe.router.score = "sigmoid";
    moe.router.selection_bias = true;
    moe.balance.clear();  // the bias balances
  }
  if (options.shared_expert) moe.shared_experts = {1, F, options.shared_gate};
  return moe;
}

void check_layers(const MoeConfig& moe, int64_t num_layers) {
  try {
    if (moe_layer_indices(moe, num_layers).empty()) refuse("`moe.layers` picks no layer");
  } catch (const ConfigError& error) {
    refuse(std::string("--layers: ") + error.what());
  }
}

ExpertRecipe make_recipe(const ModelConfig& model, const UpcycleOptions& options) {
  ExpertRecipe recipe;
  recipe.init = options.method == UpcycleMethod::kNoise  ? ExpertInit::kNoise
                : options.method == UpcycleMethod::kDrop ? ExpertInit::kDrop
                                                         : ExpertInit::kCopy;
  recipe.scaling = options.scaling;
  recipe.num_experts = *options.num_experts;
  recipe.top_k = *options.top_k;
  recipe.granularity = options.granularity.value_or(1);
  recipe.gated = is_gated(parse_ffn(model.ffn));
  recipe.normalize = options.normalize;
  recipe.share = options.shared_expert ? 0.5 : 1.0;
  recipe.drop_ratio = options.drop_ratio.value_or(kDefaultDropRatio);
  recipe.noise_std = options.noise_std.value_or(kDefaultNoiseStd);
  recipe.seed = options.seed;
  return recipe;
}

std::vector<std::string> remarks_on(const ExpertRecipe& recipe, size_t num_sources) {
  std::vector<std::string> remarks;
  const int64_t E = recipe.num_experts, K = recipe.top_k, G = recipe.granularity;
  const double sum = static_cast<double>(K) / static_cast<double>(E);
  if (!recipe.normalize && recipe.scaling == ExpertScaling::kExact && K < E) {
    remarks.push_back(
        "--no-normalize: a token's weights sum to about top_k / num_experts = " + text(sum) +
        ", and the routed experts give that share of the dense output; "
        "--scaling published makes up for it on average");
  }
  if (recipe.normalize && K == 1) {
    remarks.push_back(
        "--top-k 1 with normalised weights: the weight is always 1, so the language "
        "loss does not reach the router");
  }
  if (K % G != 0) {
    remarks.push_back("--top-k " + text(K) + " is not a multiple of --granularity " + text(G) +
                      ": tokens get part of a network, and the function changes; use " +
                      text((K / G + 1) * G));
  }
  if (recipe.scaling == ExpertScaling::kPublished && G > 1 && recipe.normalize) {
    remarks.push_back(
        "--scaling published: scaled inside the activation too, which does not keep "
        "the function; --scaling exact does");
  }
  const int64_t networks = E / G;
  if (networks % static_cast<int64_t>(num_sources) != 0) {
    remarks.push_back("--from: " + text(networks) + " networks from " +
                      text(static_cast<int64_t>(num_sources)) +
                      " models: the first ones give one more than the others");
  }
  return remarks;
}

std::vector<TensorSource*> tensors_of(const std::vector<ModelSource>& sources) {
  std::vector<TensorSource*> tensors;
  for (const ModelSource& source : sources) tensors.push_back(source.tensors.get());
  return tensors;
}

/// What a run's progress says of an optimizer that goes on; its place in the data it has not.
nlohmann::json carried_state(nlohmann::json state) {
  state.erase("data_fingerprint");
  state.erase("lagged_tokens");
  return state;
}

/// Config, tokenizer and step of the first source.
ModelSource made_over(const ModelSource& source, const MoeConfig& moe, OptimizerState state) {
  ModelSource made;
  made.config = source.config;
  made.config.moe = moe;
  made.config.parallel.expert = 1;
  made.config.checkpoint.load_from.reset();
  made.step = source.step;
  made.state =
      state == OptimizerState::kCarry ? carried_state(source.state) : nlohmann::json::object();
  made.meta = source.meta;
  for (const auto& file : source.files) {
    if (file.first != "receipt.json") made.files.push_back(file);
  }
  return made;
}

}  // namespace

const char* to_string(UpcycleMethod method) {
  switch (method) {
    case UpcycleMethod::kCopy:
      return "copy";
    case UpcycleMethod::kNoise:
      return "noise";
    case UpcycleMethod::kDrop:
      return "drop";
    case UpcycleMethod::kAverage:
      break;
  }
  return "average";
}

const char* to_string(ExpertScaling scaling) {
  return scaling == ExpertScaling::kExact ? "exact" : "published";
}

void check_options(const UpcycleOptions& options, size_t num_sources) {
  check_belongs(options.drop_ratio.has_value(), "--drop-ratio", options.method,
                UpcycleMethod::kDrop);
  check_belongs(options.noise_std.has_value(), "--noise-std", options.method,
                UpcycleMethod::kNoise);
  check_belongs(!options.weights.empty(), "--weights", options.method, UpcycleMethod::kAverage);
  check_numbers(options);
  if (options.shared_gate && !options.shared_expert) {
    refuse("--shared-gate: there is no shared expert; give --shared-expert too");
  }
  if (options.method == UpcycleMethod::kAverage) {
    check_average(options, num_sources);
    return;
  }
  check_experts(options);
  const int64_t networks = *options.num_experts / options.granularity.value_or(1);
  if (networks < static_cast<int64_t>(num_sources)) {
    refuse("--num-experts: " + text(*options.num_experts) + " experts make " + text(networks) +
           " networks, fewer than the " + text(static_cast<int64_t>(num_sources)) + " --from");
  }
}

UpcycledModel upcycle(const std::vector<ModelSource>& sources, const UpcycleOptions& options) {
  check_options(options, sources.size());
  check_sources(sources);
  const ModelSource& first = sources.front();
  if (options.optimizer_state == OptimizerState::kCarry) check_moments(sources);
  UpcycledModel made;
  if (options.method == UpcycleMethod::kAverage) {
    const std::vector<double> alike(sources.size(), 1.0);
    made.model = made_over(first, first.config.moe, OptimizerState::kDrop);
    made.model.tensors = std::make_unique<AveragedSource>(
        tensors_of(sources), options.weights.empty() ? alike : options.weights);
    return made;
  }
  const MoeConfig moe = moe_config(first.config.model, options);
  check_layers(moe, first.config.model.num_hidden_layers);
  if (sources.size() > 1) {
    made.trunk = std::make_unique<AveragedSource>(tensors_of(sources),
                                                  std::vector<double>(sources.size(), 1.0));
  }
  const ExpertRecipe recipe = make_recipe(first.config.model, options);
  made.remarks = remarks_on(recipe, sources.size());
  made.model = made_over(first, moe, options.optimizer_state);
  made.model.tensors = std::make_unique<UpcycledSource>(
      made.trunk ? *made.trunk : *first.tensors, tensors_of(sources), first.config.model, moe,
      recipe, options.router_init_std, options.optimizer_state);
  return made;
}

}  // namespace switchyard
