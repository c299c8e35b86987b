#include "train/session.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fnmatch.h>

#include <algorithm>
#include <thread>

#include "base/error.h"
#include "config/overlap.h"
#include "distributed/device.h"
#include "ops/blocked_gemm.h"
#include "train/domain.h"

namespace switchyard {
namespace {

bool matches(const std::string& pattern, const std::string& name) {
  return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

UpdateRule update_rule(const RunConfig& config, const NamedPart& part) {
  UpdateRule rule;
  rule.decay = part.shape.size() >= 2;
  for (const auto& [pattern, factor] : config.optim.lr_scale) {
    if (matches(pattern, part.name)) rule.lr_scale *= factor;
  }
  rule.frozen = std::ranges::any_of(
      config.train.freeze, [&](const std::string& pattern) { return matches(pattern, part.name); });
  return rule;
}

/// Threads of each rank: `auto` shares this host's cores among its ranks.
void set_threads(const TrainConfig& train, int local_ranks) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  const int threads =
      train.threads == kAuto ? std::max(1, cores / local_ranks) : static_cast<int>(train.threads);
  at::set_num_threads(threads);
}

}  // namespace

at::ScalarType compute_dtype(const TrainConfig& train) {
  if (train.precision == "fp32") return at::kFloat;
  if (train.precision == "bf16" || train.device == "cuda") return at::kBFloat16;
  return multiplies_bfloat16() ? at::kBFloat16 : at::kFloat;
}

void resolve_vocabulary(ModelConfig& model, int64_t data_vocab_size) {
  if (model.vocab_size == kAuto) {
    model.vocab_size = (data_vocab_size + 63) / 64 * 64;
  } else if (model.vocab_size < data_vocab_size) {
    throw ConfigError("model.vocab_size: " + std::to_string(model.vocab_size) +
                      " is smaller than the data's vocabulary of " +
                      std::to_string(data_vocab_size) + "; leave it out, or set at least that");
  }
}

Session::Session(const Runtime& runtime, const RunConfig& config, Purpose purpose)
    : Session(runtime, config, purpose, select_device(config.train.device, runtime.local_rank())) {}

Session::Session(const Runtime& runtime, const RunConfig& config, Purpose purpose,
                 c10::Device device)
    : Session(runtime.make_mesh(config.parallel, device), runtime.record(), runtime.local_size(),
              config, purpose, device) {}

Session::Session(Mesh mesh, FlightRecord& record, int local_ranks, const RunConfig& config,
                 Purpose purpose, c10::Device device)
    : config_(config),
      record_(record),
      mesh_(std::move(mesh)),
      device_(device),
      size_(model_size(config.model, config.moe, config.data.sequence_length)),
      optimizer_{config.optim.betas.at(0), config.optim.betas.at(1), config.optim.eps,
                 config.optim.weight_decay},
      spike_guard_(config.train.spike) {
  check_domains(config);
  set_threads(config.train, local_ranks);
  const auto seed = static_cast<uint64_t>(config.run.seed);
  decoder_ = std::make_unique<Decoder>(store_, config.model, config.moe, mesh_, seed,
                                       parse_recompute(config.train.recompute), device);
  ParameterStore::Options options;
  options.dtype = compute_dtype(config.train);
  options.device = device;
  options.zero_stage = static_cast<int>(config.zero.stage);
  options.seed = seed;
  options.purpose = purpose;
  options.overlap_reduction = overlaps_reduction(config);
  options.overlap_gather = overlaps_gather(config);
  options.rule = [this](const NamedPart& part) { return update_rule(config_, part); };
  store_.allocate(mesh_, options);
  if (decoder_->num_moe_layers() > 0) {
    progress_.lagged = uniform_counts(decoder_->num_moe_layers(), config.moe);
  }
}

}  // namespace switchyard
