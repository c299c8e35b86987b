#include "train/run_description.h"

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

/// Millions with one digit, as papers write sizes: "12.3M".
std::string millions(int64_t n) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1fM", static_cast<double>(n) / 1e6);
  return text;
}

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

std::string memory_line(const ParameterBytes& bytes) {
  return "memory   per rank: weights " + bytes_text(bytes.weights) + ", gradients " +
         bytes_text(bytes.gradients) + ", optimizer " + bytes_text(bytes.optimizer);
}

std::string describe_run(RunConfig config, int world_size) {
  if (config.model.vocab_size == kAuto)
    resolve_vocabulary(config.model, read_dataset_meta(config.data.path.front().path).vocab_size);
  const ModelSize size = model_size(config.model, config.moe, config.data.sequence_length);
  std::string text = model_line(config) + "\n" + layout_line(config, world_size) + "\n" +
                     memory_line(planned_bytes(size, config.parallel, config.zero.stage,
                                               compute_dtype(config.train), world_size)) +
                     "\n";
  for (const std::string& remark : advice(config)) text += "note     " + remark + "\n";
  return text;
}

}  // namespace switchyard
