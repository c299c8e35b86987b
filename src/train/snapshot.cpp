#include "train/snapshot.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/error.h"
#include "checkpoint/device_pieces.h"
#include "config/load_config.h"

namespace switchyard {
namespace {

using at::Tensor;

constexpr const char* kCountsAll = "router_counts.all";
constexpr const char* kCountsFirst = "router_counts.first";

/// `slice` of the elements `flat`, on the host or on a device.
OwnedSlice with_memory(OwnedSlice slice, const Tensor& flat) {
  if (flat.is_cpu()) {
    slice.data = flat.data_ptr();
  } else {
    slice.pieces = [flat](const TakeBytes& take) { for_each_piece(flat, take); };
  }
  return slice;
}

/// Elements [begin, end) of the part that `flat` holds from element `flat_begin` of the buffer on.
OwnedSlice slice_of(const PlacedPart& placed, const std::string& suffix, const Tensor& flat,
                    int64_t flat_begin, Interval mine) {
  return with_memory(
      {placed.part.name + suffix, placed.part.shape, dtype_name(flat.scalar_type()),
       to_string(placed.kind), mine.begin - placed.range.begin, mine.end - placed.range.begin},
      flat.narrow(0, mine.begin - flat_begin, mine.size()));
}

OwnedSlice whole_state(const std::string& name, const Tensor& tensor) {
  return with_memory(
      {name, tensor.sizes().vec(), dtype_name(tensor.scalar_type()), "state", 0, tensor.numel()},
      tensor.view({-1}));
}

void add_router_state(Session& session, std::vector<OwnedSlice>& slices) {
  for (const auto& [name, state] : session.decoder().router_state())
    slices.push_back(whole_state(name, state));
  const StepCounts& lagged = session.progress().lagged;
  if (!lagged.defined()) return;
  slices.push_back(whole_state(kCountsAll, lagged.all_LE));
  slices.push_back(whole_state(kCountsFirst, lagged.first_LE));
}

nlohmann::json progress_json(Session& session) {
  const Progress& progress = session.progress();
  return {{"updates", progress.updates},
          {"tokens", progress.tokens},
          {"skipped", progress.skipped},
          {"skipped_in_row", progress.skipped_in_row},
          {"spikes", progress.spikes},
          {"last_losses", session.spike_guard().losses()},
          {"last_norms", session.spike_guard().norms()},
          {"evaluation_owed", progress.evaluation_owed},
          {"lagged_tokens", progress.lagged.tokens}};
}

void check_shape(const TensorSource& source, const NamedPart& part) {
  if (source.at(part.name).shape != part.shape) {
    throw DataError(source.path() + ": `" + part.name + "` has another shape than the model's");
  }
}

void load_part(ParameterStore& store, TensorSource& source, const PlacedPart& placed,
               Restore restore) {
  check_shape(source, placed.part);
  ParameterStore::Buffer& buffer = store.buffer(placed.kind);
  const std::string& name = placed.part.name;
  const std::string best = best_name(source, name);
  // Where the weights were bfloat16 they are their master rounded: half of the bytes.
  source.read_into(buffer.master.defined() ? name : best, {0, placed.range.size()},
                   buffer.weights.narrow(0, placed.range.begin, placed.range.size()));

  const Interval kept = intersect(placed.range, buffer.state);
  if (kept.empty()) return;
  const Interval in_part{kept.begin - placed.range.begin, kept.end - placed.range.begin};
  const auto read_state = [&](const std::string& tensor, const Tensor& state) {
    source.read_into(tensor, in_part,
                     state.narrow(0, kept.begin - buffer.state.begin, kept.size()));
  };
  if (buffer.master.defined()) read_state(best, buffer.master);
  if (restore == Restore::kWeights) return;
  read_state(name + ".exp_avg", buffer.exp_avg);
  read_state(name + ".exp_avg_sq", buffer.exp_avg_sq);
}

/// A whole tensor into one that is there, of as many elements.
void load_whole(TensorSource& source, const std::string& name, const Tensor& out) {
  source.read_into(name, {0, out.numel()}, out.view({-1}));
}

/// Whether the adaptive coefficients start now: the checkpoint's run had none, or others.
bool is_new_coefficient(TensorSource& source, const std::string& name, const Tensor& state) {
  return name.ends_with(".balance_coef") &&
         (!source.has(name) || source.at(name).shape != state.sizes().vec());
}

void load_counts(Progress& progress, TensorSource& source, const nlohmann::json& state) {
  if (!progress.lagged.defined()) return;
  load_whole(source, kCountsAll, progress.lagged.all_LE);
  load_whole(source, kCountsFirst, progress.lagged.first_LE);
  progress.lagged.tokens = state.at("lagged_tokens");
}

void load_progress(Session& session, CheckpointReader& reader) {
  Progress& progress = session.progress();
  const nlohmann::json& state = reader.manifest().state;
  progress.step = reader.manifest().step;
  progress.cursor = reader.manifest().cursor;
  progress.updates = state.at("updates");
  progress.tokens = state.at("tokens");
  progress.skipped = state.at("skipped");
  progress.skipped_in_row = state.at("skipped_in_row");
  progress.spikes = state.value("spikes", int64_t{0});
  session.spike_guard().restore(state.value("last_losses", std::vector<double>()),
                                state.value("last_norms", std::vector<double>()));
  progress.evaluation_owed = state.value("evaluation_owed", false);
}

/// What must not change between a checkpoint and the run that goes on from it:
/// the config with only the model's own keys set.
RunConfig model_only(const RunConfig& config) {
  RunConfig only;
  only.model = config.model;
  only.model.dropout = 0;
  only.moe.layers = config.moe.layers;
  only.moe.num_experts = config.moe.num_experts;
  only.moe.top_k = config.moe.top_k;
  only.moe.expert_intermediate_size = config.moe.expert_intermediate_size;
  only.moe.shared_experts = config.moe.shared_experts;
  only.moe.router.selection_bias = config.moe.router.selection_bias;
  return only;
}

/// Names and shapes of what the router of a layer learns.
std::vector<std::pair<std::string, std::vector<int64_t>>> router_weights(const RunConfig& config) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> named;
  const RouterPlace place = router_place(config.model, config.moe, /*layer=*/0);
  for (const RouterWeight& weight : make_router(config.moe.router, place)->weights()) {
    named.emplace_back(weight.name, weight.shape);
  }
  return named;
}

RunConfig saved_config(const CheckpointReader& reader) {
  return parse_config(reader.read_text(kConfigName), reader.path() + "/" + kConfigName);
}

}  // namespace

std::vector<OwnedSlice> owned_slices(Session& session, SliceOf what) {
  std::vector<OwnedSlice> slices;
  session.store().finish_gather();
  for (const PlacedPart& placed : session.store().parts()) {
    const ParameterStore::Buffer& buffer = session.store().buffer(placed.kind);
    const Interval mine = intersect(placed.range, buffer.shard);
    if (mine.empty()) continue;
    if (what == SliceOf::kGradients) {
      slices.push_back(slice_of(placed, "", buffer.gradients, buffer.gradient.begin, mine));
      continue;
    }
    slices.push_back(slice_of(placed, "", buffer.weights, 0, mine));
    if (buffer.master.defined()) {
      slices.push_back(slice_of(placed, ".master", buffer.master, buffer.state.begin, mine));
    }
    slices.push_back(slice_of(placed, ".exp_avg", buffer.exp_avg, buffer.state.begin, mine));
    slices.push_back(slice_of(placed, ".exp_avg_sq", buffer.exp_avg_sq, buffer.state.begin, mine));
  }
  if (what == SliceOf::kState && session.is_root()) add_router_state(session, slices);
  return slices;
}

CheckpointInfo snapshot_info(Session& session, const std::string& data_fingerprint,
                             const NamedFiles& files) {
  CheckpointInfo info;
  info.step = session.progress().step;
  info.cursor = session.progress().cursor;
  info.config_yaml = to_yaml(session.config());
  info.world = session.mesh().world->size();
  info.expert_parallel = session.mesh().expert_size();
  info.zero_stage = static_cast<int>(session.config().zero.stage);
  info.state = progress_json(session);
  info.state["data_fingerprint"] = data_fingerprint;
  info.files = files;
  return info;
}

void save_snapshot(Session& session, const std::string& checkpoints_dir,
                   const std::string& data_fingerprint, const NamedFiles& files) {
  save_checkpoint(*session.mesh().world, checkpoints_dir,
                  snapshot_info(session, data_fingerprint, files),
                  owned_slices(session, SliceOf::kState));
}

uint64_t load_snapshot(Session& session, const std::string& step_dir, Restore restore,
                       Digests digests) {
  CheckpointSource source(step_dir, digests);
  load_tensors(session, source, restore);
  if (restore == Restore::kRun) {
    load_progress(session, source.reader());
    load_counts(session.progress(), source, source.reader().manifest().state);
  }
  return source.reader().bytes_read();
}

void load_tensors(Session& session, TensorSource& source, Restore restore) {
  session.store().finish_gather();
  for (const PlacedPart& placed : session.store().parts())
    load_part(session.store(), source, placed, restore);
  for (const auto& [name, state] : session.decoder().router_state()) {
    if (!is_new_coefficient(source, name, state)) load_whole(source, name, state);
  }
}

void check_same_model(const RunConfig& config, const RunConfig& theirs, const std::string& path) {
  std::string text;
  for (const std::string& line : differences(model_only(config), model_only(theirs))) {
    text += "\n  " + line;
  }
  const std::string &here = config.moe.router.type, &there = theirs.moe.router.type;
  if (text.empty() && router_weights(config) != router_weights(theirs)) {
    text = "\n  moe.router" +
           (here == there ? " has weights of another shape"
                          : ".type: " + here + " here, " + there + " there, with other weights");
  }
  if (text.empty()) return;
  throw ConfigError(path + ": this checkpoint is of another model:" + text);
}

void check_resumable(const RunConfig& config, const std::string& data_fingerprint,
                     const std::string& step_dir) {
  const CheckpointReader reader(step_dir);
  const RunConfig saved = saved_config(reader);
  check_same_model(config, saved, step_dir);
  const int64_t seed = saved.run.seed;
  const auto refuse = [&](const std::string& reason) {
    throw ConfigError(step_dir + ": cannot go on from this checkpoint: " + reason);
  };
  if (config.run.seed != seed) {
    refuse("run.seed is " + std::to_string(config.run.seed) + " here, " + std::to_string(seed) +
           " there");
  }
  if (reader.manifest().state.value("data_fingerprint", "") != data_fingerprint) {
    refuse(
        "the training data is not the one it was trained on; to start another run from its weights "
        "use "
        "checkpoint.load_from");
  }
}

}  // namespace switchyard
