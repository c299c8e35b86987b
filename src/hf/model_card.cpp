#include "hf/model_card.h"

#include "config/load_config.h"
#include "metrics/console.h"
#include "model/model_size.h"

namespace switchyard {
namespace {

constexpr const char* kFrontMatter =
    "---\n"
    "library_name: transformers\n"
    "pipeline_tag: text-generation\n"
    "tags:\n"
    "- switchyard\n";

std::string row(const std::string& what, const std::string& value) {
  return "| " + what + " | " + value + " |\n";
}

std::string expert_rows(const ModelConfig& model, const MoeConfig& moe, size_t moe_layers) {
  std::string rows = row("MoE layers", std::to_string(moe_layers) + " of " +
                                           std::to_string(model.num_hidden_layers)) +
                     row("experts", std::to_string(moe.num_experts) + " per layer, " +
                                        std::to_string(moe.top_k) + " per token");
  if (moe.shared_experts.num > 0) {
    rows += row("shared experts", std::to_string(moe.shared_experts.num));
  }
  return rows;
}

}  // namespace

std::string model_card(const std::string& name, const nlohmann::ordered_json& config,
                       const ModelConfig& model, const MoeConfig& moe, const std::string& receipt) {
  const size_t moe_layers = moe_layer_indices(moe, model.num_hidden_layers).size();
  const ModelSize size = model_size(model, moe, /*sequence_length=*/1);
  std::string card = kFrontMatter;
  if (moe_layers > 0) card += "- mixture-of-experts\n";
  card += "---\n\n# " + name + "\n\nA language model written by Switchyard as `" +
          config.at("architectures").at(0).get<std::string>() + "`.\n\n| | |\n|---|---|\n" +
          row("parameters", grouped(size.total_parameters())) +
          row("active per token", grouped(size.active_parameters)) +
          row("layers", std::to_string(model.num_hidden_layers)) +
          row("width", std::to_string(model.hidden_size)) +
          row("vocabulary", grouped(model.vocab_size));
  if (moe_layers > 0) card += expert_rows(model, moe, moe_layers);
  card += row("dtype", config.at("dtype").get<std::string>());
  card +=
      "\n```python\nfrom transformers import AutoModelForCausalLM\n\n"
      "model = AutoModelForCausalLM.from_pretrained(\"" +
      name + "\")\n```\n\n## How it was made\n\n" + receipt;
  return card;
}

}  // namespace switchyard
