#include "train/run_description.h"

#include <cstdio>
#include <map>
#include <numeric>

#include "config/load_config.h"
#include "data/dataset_meta.h"
#include "metrics/console.h"
#include "model/memory_plan.h"
#include "train/session.h"

namespace switchyard {
namespace {

std::string precision_name(const TrainConfig& train) {
  return compute_dtype(train) == at::kFloat ? "fp32" : "bf16";
}

std::string fixed(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

/// Millions with one digit, as papers write sizes: "12.3M".
std::string millions(int64_t n) { return fixed("%.1fM", static_cast<double>(n) / 1e6); }

}  // namespace

std::string model_line(const RunConfig& config) {
  const ModelSize size = model_size(config.model, config.moe, config.data.sequence_length);
  const size_t moe_layers = moe_layer_indices(config.moe, config.model.num_hidden_layers).size();
  std::string line = "model    " + millions(size.total_parameters()) + " parameters, " +
                     millions(size.active_parameters) + " active; " +
                     std::to_string(config.model.num_hidden_layers) + " layers of width " +
                     std::to_string(config.model.hidden_size) + ", vocabulary " +
                     std::to_string(config.model.vocab_size);
  if (moe_layers == 0) return line + ", dense";
  return line + ", " + std::to_string(moe_layers) + " with " +
         std::to_string(config.moe.num_experts) + " experts, top-" +
         std::to_string(config.moe.top_k) + " " + config.moe.router.type;
}

std::string layout_line(const RunConfig& config, int world_size) {
  const int64_t EP = config.parallel.expert;
  return "layout   " + std::to_string(world_size) + " ranks = EP " + std::to_string(EP) +
         " x EDP " + std::to_string(world_size / EP) + ", ZeRO-" +
         std::to_string(config.zero.stage) + ", " + precision_name(config.train) + "; batch " +
         std::to_string(config.train.global_batch_size) + " x " +
         std::to_string(config.data.sequence_length) + " tokens, micro-batch " +
         std::to_string(config.train.micro_batch_size);
}

std::string memory_line(const MemoryPlan& plan) {
  std::string line = "memory   per rank: weights " + bytes_text(plan.parameters.weights) +
                     ", gradients " + bytes_text(plan.parameters.gradients) + ", optimizer " +
                     bytes_text(plan.parameters.optimizer) + ", activations " +
                     bytes_text(plan.activations());
  if (plan.exchange() > 0) line += ", exchange " + bytes_text(plan.exchange());
  if (plan.checkpoint > 0) line += ", checkpoint's copy " + bytes_text(plan.checkpoint);
  return line;
}

std::string data_lines(const TrainingData& data, const RunConfig& config, const ModelSize& size) {
  const int64_t samples = config.train.steps * config.train.global_batch_size;
  const int64_t tokens = samples * config.data.sequence_length;
  std::string lines =
      "data     " + grouped(tokens) + " tokens in " + grouped(config.train.steps) + " steps, " +
      fixed("%.2f", static_cast<double>(tokens) / static_cast<double>(size.active_parameters)) +
      " per active parameter";
  const std::vector<int64_t>& places = data.blend().counts();
  const auto cycle = static_cast<double>(std::accumulate(places.begin(), places.end(), int64_t{0}));
  for (int64_t i = 0; i < data.num_sources(); ++i) {
    const double share = static_cast<double>(places[i]) / cycle;
    const double epochs =
        share * static_cast<double>(samples) / static_cast<double>(data.samples_in_source(i));
    const std::string& dir = data.source(i).dir();
    lines += "\n         " + data.source_name(i) + ": " + grouped(data.source(i).num_tokens()) +
             " tokens";
    if (has_split(dir, "val")) {
      lines += ", validation " + grouped(TokenDataset(dir, "val").num_tokens());
    }
    lines += "; ";
    if (data.num_sources() > 1) lines += fixed("%.1f%% of the samples, ", 100 * share);
    lines += fixed("%.2f epochs", epochs);
  }
  return lines;
}

std::string run_line(const std::string& folder, const std::vector<std::string>& hosts,
                     const std::string& resumed_from) {
  std::map<std::string, int64_t> ranks_on;
  for (const std::string& host : hosts) ++ranks_on[host];
  std::string line = "run      " + folder + " on ";
  std::string between;
  for (const auto& [host, ranks] : ranks_on) {
    line += between + host + " (" + std::to_string(ranks) + (ranks == 1 ? " rank)" : " ranks)");
    between = ", ";
  }
  return resumed_from.empty() ? line : line + ", going on from " + resumed_from;
}

RunRecord describe_run(const Session& session, const TrainingData& data) {
  const RunConfig& config = session.config();
  const MemoryPlan plan =
      plan_memory(config, compute_dtype(config.train), session.mesh().world->size());
  RunRecord record;
  record.name = config.run.name;
  record.steps = config.train.steps;
  record.parameters_total = session.size().total_parameters();
  record.parameters_active = session.size().active_parameters;
  record.flops_per_token = session.size().flops_per_token;
  record.ranks = session.mesh().world->size();
  record.expert = config.parallel.expert;
  record.zero = config.zero.stage;
  record.precision = precision_name(config.train);
  record.planned_bytes_per_rank = {{"parameters", plan.parameters.weights},
                                   {"gradients", plan.parameters.gradients},
                                   {"optimizer", plan.parameters.optimizer},
                                   {"activations", plan.activations()},
                                   {"exchange", plan.exchange()},
                                   {"checkpoint", plan.checkpoint},
                                   {"allocator", plan.allocator},
                                   {"total", plan.total()}};
  record.moe_layers = session.decoder().moe_layers();
  if (!record.moe_layers.empty()) {
    record.num_experts = config.moe.num_experts;
    record.top_k = config.moe.top_k;
  }
  for (int64_t i = 0; i < data.num_sources(); ++i) {
    record.data.push_back({data.source_name(i), data.source(i).dir(), data.source(i).num_tokens()});
  }
  return record;
}

std::string describe_run(RunConfig config, int world_size) {
  if (config.model.vocab_size == kAuto)
    resolve_vocabulary(config.model, read_dataset_meta(config.data.path.front().path).vocab_size);
  const MemoryPlan plan = plan_memory(config, compute_dtype(config.train), world_size);
  std::string text =
      model_line(config) + "\n" + layout_line(config, world_size) + "\n" + memory_line(plan) + "\n";
  for (const std::string& remark : advice(config)) text += "note     " + remark + "\n";
  return text;
}

}  // namespace switchyard
