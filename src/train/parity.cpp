#include "train/parity.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/step_folder.h"
#include "train/snapshot.h"
#include "train/token_counts.h"
#include "train/train_step.h"

// B sequences of S tokens in the global batch, K experts per token, L MoE layers.

namespace switchyard {
namespace {

using at::Tensor;
using nlohmann::json;

// ---------------------------------------------------------------- one world

/// Fits a layout into the config: EP, micro-batch, float32.
RunConfig config_for(RunConfig config, const Layout& layout) {
  config.parallel.expert = layout.expert;
  if (layout.zero_stage) config.zero.stage = *layout.zero_stage;
  config.train.precision = "fp32";
  const int64_t per_rank = config.train.global_batch_size / layout.ranks;
  const std::string place = "layout " + layout.text + ": ";
  if (per_rank * layout.ranks != config.train.global_batch_size) {
    throw ConfigError(place + "train.global_batch_size " +
                      std::to_string(config.train.global_batch_size) + " does not divide over " +
                      std::to_string(layout.ranks) + " ranks");
  }
  if (config.moe.num_experts % layout.expert != 0 || layout.ranks % layout.expert != 0) {
    throw ConfigError(place + "EP " + std::to_string(layout.expert) +
                      " must divide moe.num_experts and the ranks");
  }
  const int64_t group = config.moe.group_sequences;
  int64_t micro = std::min(config.train.micro_batch_size, per_rank);
  if (layout.accumulation > 0) {
    micro = per_rank / layout.accumulation;
  } else {
    while (micro > 1 && (per_rank % micro != 0 || micro % group != 0)) --micro;
  }
  if (micro < 1 || per_rank % micro != 0 || micro % group != 0 ||
      (layout.accumulation > 0 && micro * layout.accumulation != per_rank)) {
    throw ConfigError(place + "no micro-batch of whole routing groups (" + std::to_string(group) +
                      " sequences) fits " + std::to_string(per_rank) + " sequences per rank" +
                      (layout.accumulation > 0
                           ? " in " + std::to_string(layout.accumulation) + " micro-batches"
                           : ""));
  }
  config.train.micro_batch_size = micro;
  return config;
}

void plant_in_config(RunConfig& config, Plant plant, const Layout& layout) {
  if (plant == Plant::kCapacityRank) config.moe.capacity.scope = "rank";
  if (plant == Plant::kBalanceTimesMicro) {
    const int64_t micro_steps =
        config.train.global_batch_size / layout.ranks / config.train.micro_batch_size;
    for (BalanceConfig& balance : config.moe.balance)
      balance.coef *= static_cast<double>(micro_steps);
  }
}

void plant_in_result(Session& session, Plant plant, StepReport& report) {
  if (plant == Plant::kExpertMean) {
    session.store().buffer(ParameterKind::kExpert).gradients.div_(session.mesh().expert_size());
  }
  if (plant == Plant::kNormTwice) {
    report.norms.total = std::sqrt(report.norms.dense * report.norms.dense +
                                   2 * report.norms.expert * report.norms.expert);
  }
}

/// This rank's rows of the routing decisions, joined over micro-batches: the
/// tensor of layer l is (B, S * K) over the world, in the run's sample order.
class RoutingSlices {
 public:
  RoutingSlices(const RoutingTrace& trace, const Session& session) {
    const auto layers = static_cast<size_t>(session.decoder().num_moe_layers());
    std::vector<std::vector<Tensor>> experts(layers), kept(layers);
    for (const RoutingTrace::Entry& entry : trace.entries) {
      experts[entry.layer].push_back(entry.experts_TK.flatten());
      kept[entry.layer].push_back(entry.kept_TK.to(at::kLong).flatten());
    }
    const int64_t world = session.mesh().world->size(), rank = session.mesh().world->rank();
    for (size_t l = 0; l < layers; ++l) {
      add("routing." + std::to_string(l) + ".experts", at::cat(experts[l]), world, rank);
      add("routing." + std::to_string(l) + ".kept", at::cat(kept[l]), world, rank);
    }
  }

  void add(const std::string& name, const Tensor& mine, int64_t world, int64_t rank) {
    tensors_.push_back(mine.contiguous());
    const int64_t n = mine.numel();
    slices_.push_back(
        {name, {n * world}, "I64", "state", rank * n, (rank + 1) * n, tensors_.back().data_ptr()});
  }

  const std::vector<OwnedSlice>& slices() const { return slices_; }

 private:
  std::vector<Tensor> tensors_;
  std::vector<OwnedSlice> slices_;
};

json report_json(const StepReport& report) {
  return {{"loss", report.loss},
          {"aux_loss", report.aux},
          {"z_loss", report.z},
          {"grad_norm", report.norms.total},
          {"grad_norm_dense", report.norms.dense},
          {"grad_norm_expert", report.norms.expert}};
}

Tensor sample_ids(const Session& session, const TrainingData& data) {
  const int64_t mine = session.sequences_per_rank();
  const int64_t first =
      static_cast<int64_t>(session.progress().cursor) + session.mesh().world->rank() * mine;
  const SampleBatch batch = data.read(first, mine);
  return at::tensor(std::vector<int64_t>(batch.ids.begin(), batch.ids.end()), at::kLong);
}

std::string layout_folder(const std::string& folder, const Layout& layout) {
  return folder + "/" + layout.text;
}

std::string step_folder(const std::string& folder, int64_t step) {
  return folder + "/" + step_folder_name(step);
}

void write_result(Session& session, const TrainingData& data, const StepReport& report,
                  const RoutingTrace& trace, const std::string& folder) {
  RoutingSlices routing(trace, session);
  routing.add("sample_ids", sample_ids(session, data), session.mesh().world->size(),
              session.mesh().world->rank());
  std::vector<OwnedSlice> slices = owned_slices(session, SliceOf::kGradients);
  slices.insert(slices.end(), routing.slices().begin(), routing.slices().end());
  CheckpointInfo info;
  info.step = session.progress().step;
  info.world = session.mesh().world->size();
  info.expert_parallel = session.mesh().expert_size();
  info.zero_stage = static_cast<int>(session.config().zero.stage);
  info.state = report_json(report);
  info.non_finite = NonFinite::kKeep;  // to be compared, not to be gone on from
  save_checkpoint(*session.mesh().world, folder, info, slices);
}

void make_folder_once(const Session& session, const std::string& folder) {
  if (session.is_root()) make_folders(folder);
  session.mesh().world->barrier("parity folder");
}

// ----------------------------------------------------------- the comparison

double relative(double a, double b) {
  const double scale = std::max(std::abs(a), std::abs(b));
  return scale == 0 ? 0.0 : std::abs(a - b) / scale;
}

Tensor read_floats(CheckpointReader& reader, const TensorRecord& tensor) {
  Tensor values = at::empty({c10::multiply_integers(tensor.shape)}, at::kFloat);
  reader.read(tensor.name, "F32", 0, values.numel(), values.data_ptr());
  return values.to(at::kDouble);
}

Tensor read_ids(CheckpointReader& reader, const std::string& name) {
  Tensor values = at::empty({c10::multiply_integers(reader.tensor(name).shape)}, at::kLong);
  reader.read(name, "I64", 0, values.numel(), values.data_ptr());
  return values;
}

/// What differs between two layouts, the worst over steps.
struct Difference {
  double loss = 0, gradient = 0, norm = 0;
  std::string worst_parameter;
  int64_t flips = 0;
  bool dropped_equal = true, samples_equal = true;
};

void compare_gradients(CheckpointReader& a, CheckpointReader& b, Difference& difference) {
  for (const TensorRecord& tensor : a.manifest().tensors) {
    if (tensor.kind == "state") continue;
    const Tensor x = read_floats(a, tensor), y = read_floats(b, tensor);
    const double norm = x.norm().item<double>(), apart = (x - y).norm().item<double>();
    const double ratio = apart == 0 ? 0.0 : apart / std::max(norm, 1e-30);
    if (ratio > difference.gradient || difference.worst_parameter.empty()) {
      difference.gradient = std::max(ratio, difference.gradient);
      difference.worst_parameter = tensor.name;
    }
  }
}

/// Flips are choices that differ; drops are compared in the routing groups
/// without one, where they must be the same.
void compare_routing(CheckpointReader& a, CheckpointReader& b, int64_t groups,
                     Difference& difference) {
  for (int64_t l = 0; a.has("routing." + std::to_string(l) + ".experts"); ++l) {
    const std::string prefix = "routing." + std::to_string(l);
    const auto read = [&](CheckpointReader& reader, const char* what) {
      return read_ids(reader, prefix + what).view({groups, -1});
    };
    const Tensor flipped = read(a, ".experts") != read(b, ".experts");
    difference.flips += flipped.sum().item<int64_t>();
    const Tensor calm = flipped.any(/*dim=*/1).logical_not();
    const Tensor drops_differ = (read(a, ".kept") != read(b, ".kept")).any(/*dim=*/1);
    if ((calm & drops_differ).any().item<bool>()) difference.dropped_equal = false;
  }
}

void compare_step(CheckpointReader& a, CheckpointReader& b, int64_t group_sequences,
                  Difference& difference) {
  for (const char* key : {"loss", "aux_loss", "z_loss"}) {
    difference.loss =
        std::max(difference.loss, relative(a.manifest().state.at(key), b.manifest().state.at(key)));
  }
  for (const char* key : {"grad_norm", "grad_norm_dense", "grad_norm_expert"}) {
    difference.norm =
        std::max(difference.norm, relative(a.manifest().state.at(key), b.manifest().state.at(key)));
  }
  compare_gradients(a, b, difference);
  const Tensor ids = read_ids(a, "sample_ids");
  difference.samples_equal &= ids.equal(read_ids(b, "sample_ids"));
  compare_routing(a, b, ids.numel() / group_sequences, difference);
}

int take_int(std::string_view& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || value < 1) return 0;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

bool take(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

/// "z2" and the like; stages that do not exist stay in the text.
std::optional<int> take_stage(std::string_view& text) {
  for (const int stage : {0, 1, 2}) {
    const std::string word = "z" + std::to_string(stage);
    if (!text.starts_with(word)) continue;
    text.remove_prefix(word.size());
    return stage;
  }
  return std::nullopt;
}

}  // namespace

std::vector<Layout> parse_layouts(const std::string& text) {
  std::vector<Layout> layouts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    Layout layout;
    layout.text = text.substr(begin, end - begin);
    std::string_view rest = layout.text;
    layout.ranks = take_int(rest);
    const bool x = take(rest, 'x');
    layout.expert = take_int(rest);
    if (take(rest, 'a')) layout.accumulation = take_int(rest);
    layout.zero_stage = take_stage(rest);
    if (layout.ranks == 0 || !x || layout.expert == 0 || !rest.empty()) {
      throw ConfigError("--layouts: `" + layout.text +
                        "` is not RANKSxEP (such as 4x2, 4x2a4 for 4 micro-batches per step, 4x2z2 "
                        "for ZeRO stage 2, or 4x2a4z2)");
    }
    layouts.push_back(layout);
    begin = end + 1;
  }
  return layouts;
}

Plant parse_plant(const std::string& word) {
  if (word == "none") return Plant::kNone;
  if (word == "expert-mean") return Plant::kExpertMean;
  if (word == "norm-twice") return Plant::kNormTwice;
  if (word == "balance-times-micro") return Plant::kBalanceTimesMicro;
  if (word == "capacity-rank") return Plant::kCapacityRank;
  throw ConfigError("--plant: unknown word `" + word +
                    "`; one of none, expert-mean, norm-twice, balance-times-micro, capacity-rank");
}

void run_parity_worker(const Runtime& runtime, RunConfig config, const Layout& layout,
                       int64_t steps, const std::string& folder, bool reference, Plant plant) {
  if (runtime.world_size() != layout.ranks) {
    throw CommError("parity: layout " + layout.text + " was started with " +
                    std::to_string(runtime.world_size()) + " ranks");
  }
  config = config_for(std::move(config), layout);
  const TrainingData data(config.data, static_cast<uint64_t>(config.run.seed));
  resolve_vocabulary(config.model, data.vocab_size());
  if (!reference) plant_in_config(config, plant, layout);
  Session session(runtime, config);
  if (reference && config.checkpoint.load_from) {
    load_snapshot(session, resolve_checkpoint(*config.checkpoint.load_from), Restore::kWeights);
  }
  if (reference && !config.checkpoint.load_from) prepare_routers(session, data);
  const std::string weights = folder + "/weights", results = layout_folder(folder, layout);
  make_folder_once(session, weights);
  make_folder_once(session, results);
  for (int64_t step = 0; step < steps; ++step) {
    if (reference) {
      save_snapshot(session, weights, data.fingerprint(), {});
    } else {
      load_snapshot(session, step_folder(weights, step), Restore::kRun);
    }
    RoutingTrace trace;
    const std::vector<MicroBatch> batches = read_step(session, data);
    StepReport report = compute_gradients(session, batches, &trace);
    if (!reference) plant_in_result(session, plant, report);
    write_result(session, data, report, trace, results);
    if (reference) train_step(session, batches);
  }
}

json compare_layouts(const std::string& folder, const Layout& reference, const Layout& other,
                     int64_t steps, int64_t group_sequences) {
  Difference difference;
  for (int64_t step = 0; step < steps; ++step) {
    CheckpointReader a(step_folder(layout_folder(folder, reference), step));
    CheckpointReader b(step_folder(layout_folder(folder, other), step));
    compare_step(a, b, group_sequences, difference);
  }
  const bool ok = difference.loss < kParityTolerance && difference.gradient < kParityTolerance &&
                  difference.norm < kParityTolerance && difference.dropped_equal &&
                  difference.samples_equal;
  return {{"layout", other.text},
          {"ok", ok},
          {"loss", difference.loss},
          {"gradient", difference.gradient},
          {"norm", difference.norm},
          {"worst_parameter", difference.worst_parameter},
          {"flips", difference.flips},
          {"dropped_equal", difference.dropped_equal},
          {"samples_equal", difference.samples_equal}};
}

}  // namespace switchyard
