#include "metrics/jsonl.h"

#include <nlohmann/json.hpp>
#include <sstream>

namespace switchyard {
namespace {

// Keeps the order of insertion. Its dump() writes the shortest digits that read
// back bit-equal, and null for what is not finite.
using Json = nlohmann::ordered_json;

bool is_record_up_to(const std::string& line, int64_t step) {
  const Json record = Json::parse(line, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (!record.is_object()) return false;
  const auto found = record.find("step");
  return found != record.end() && found->is_number_integer() && found->get<int64_t>() <= step;
}

}  // namespace

Json step_record(const StepMetrics& metrics) {
  Json json = {
      {"step", metrics.step},
      {"tokens", metrics.tokens},
      {"loss", metrics.loss},
      {"loss_z", metrics.loss_z},
      {"aux_loss", metrics.aux_loss},
      {"z_loss", metrics.z_loss},
      {"grad_norm", metrics.grad_norm},
      {"grad_norm_z", metrics.grad_norm_z},
      {"grad_norm_dense", metrics.grad_norm_dense},
      {"grad_norm_expert", metrics.grad_norm_expert},
      {"lr", metrics.lr},
      {"step_ms", metrics.step_ms},
      {"tokens_per_second", metrics.tokens_per_second},
      {"mfu", metrics.mfu},
      {"data_ms", metrics.phases.data_ms},
      {"forward_ms", metrics.phases.forward_ms},
      {"backward_ms", metrics.phases.backward_ms},
      {"comm_ms", metrics.phases.comm_ms},
      {"optimizer_ms", metrics.phases.optimizer_ms},
      {"checkpoint_ms", metrics.phases.checkpoint_ms},
      {"slowest_rank", metrics.slowest_rank},
      {"slowest_rank_ms", metrics.slowest_rank_ms},
      {"typical_rank_ms", metrics.typical_rank_ms},
      {"exchange_bytes", metrics.exchange_bytes},
      {"peak_rss_bytes", metrics.peak_rss_bytes},
      {"skipped_steps", metrics.skipped_steps},
  };
  for (const MoeLayerMetrics& layer : metrics.moe) {
    const std::string prefix = "moe." + std::to_string(layer.layer) + ".";
    json[prefix + "max_load"] = layer.max_load;
    json[prefix + "dropped"] = layer.dropped;
    json[prefix + "entropy"] = layer.entropy;
    json[prefix + "dead"] = layer.dead();
    json[prefix + "load"] = layer.load;
  }
  return json;
}

Json eval_record(const EvalMetrics& metrics) {
  Json json = {{"step", metrics.step},     {"eval", metrics.split},
               {"loss", metrics.loss},     {"perplexity", metrics.perplexity()},
               {"bits_per_byte", nullptr}, {"tokens", metrics.tokens}};
  if (metrics.bits_per_byte) json["bits_per_byte"] = *metrics.bits_per_byte;
  return json;
}

std::string step_json(const StepMetrics& metrics) { return step_record(metrics).dump(); }

std::string eval_json(const EvalMetrics& metrics) { return eval_record(metrics).dump(); }

void JsonlWriter::append_line(const std::string& line) {
  file_.append(line + '\n');
  file_.flush();
}

void truncate_after_step(const std::string& path, int64_t step) {
  if (!path_exists(path)) return;
  std::istringstream records(read_file(path));
  std::string kept;
  for (std::string line; std::getline(records, line);) {
    if (is_record_up_to(line, step)) kept += line + '\n';
  }
  write_file_atomically(path, kept);
}

}  // namespace switchyard
