#include "train/model_receipt.h"

#include "config/load_config.h"
#include "metrics/console.h"

namespace switchyard {
namespace {

std::string fenced(const std::string& language, const std::string& text) {
  std::string fence = "```";
  while (text.find(fence) != std::string::npos) fence += "`";
  const bool ends = !text.empty() && text.back() == '\n';
  return fence + language + "\n" + text + (ends ? "" : "\n") + fence + "\n";
}

/// What `state` of the manifest says of a run; a model that was not trained has none.
std::string training(const ModelSource& model) {
  if (!model.state.contains("tokens")) return "No training step was taken by Switchyard.\n";
  std::string text = "Trained by Switchyard:\n\n- steps: " + grouped(model.step) +
                     "\n- tokens: " + grouped(model.state["tokens"].get<int64_t>()) + "\n";
  const std::string fingerprint = model.state.value("data_fingerprint", "");
  if (!fingerprint.empty()) text += "- data fingerprint: `" + fingerprint + "`\n";
  if (model.meta) text += "- tokenizer: `" + model.meta->tokenizer + "`\n";
  return text + "\nThe config, every key:\n\n" + fenced("yaml", to_yaml(model.config));
}

}  // namespace

std::string model_receipt(const ModelSource& model) {
  std::string text = training(model);
  if (const std::string* receipt = model.file("receipt.json")) {
    text += "\nThe receipt of what it was made from:\n\n" + fenced("json", *receipt);
  }
  return text;
}

ExportFacts export_facts(const ModelSource& model) {
  return {model.config.model, model.config.moe, model.config.data.sequence_length, model.files,
          model_receipt(model)};
}

}  // namespace switchyard
