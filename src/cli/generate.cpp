#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "cli/command.h"
#include "cli/load_model.h"
#include "data/chat_template.h"
#include "data/tokenizer.h"
#include "train/domain.h"
#include "train/generator.h"

namespace switchyard {
namespace {

struct GenerateFlags {
  std::string checkpoint, prompt, device = "cpu", precision = "fp32", domain;
  SamplingOptions sampling;
  bool chat = false, allow_noncausal = false;
};

/// The model's chat template, as Hugging Face keeps it. Throws DataError without one.
std::string chat_template(const ModelSource& source) {
  if (const std::string* file = source.file("chat_template.jinja")) return *file;
  if (const std::string* file = source.file("tokenizer_config.json")) {
    const nlohmann::json config = parse_json(*file, source.path() + "/tokenizer_config.json");
    if (config.contains("chat_template") && config["chat_template"].is_string()) {
      return config["chat_template"];
    }
  }
  throw DataError(source.path() + ": this model has no chat template; leave --chat out");
}

/// Every token that ends a text: the tokenizer's, and what Hugging Face's configs name.
std::vector<int64_t> end_tokens(const ModelSource& source, int64_t eos) {
  std::vector<int64_t> ends = {eos};
  for (const char* name : {"generation_config.json", "hf_config.json"}) {
    const std::string* file = source.file(name);
    if (file == nullptr) continue;
    const nlohmann::json ids =
        parse_json(*file, source.path() + "/" + name).value("eos_token_id", nlohmann::json());
    if (ids.is_number_integer()) ends.push_back(ids);
    if (!ids.is_array()) continue;
    for (const nlohmann::json& id : ids) {
      if (id.is_number_integer()) ends.push_back(id);
    }
  }
  return ends;
}

void check(const GenerateFlags& flags) {
  const SamplingOptions& s = flags.sampling;
  if (flags.prompt.empty()) throw ConfigError("--prompt: must not be empty");
  if (s.max_new_tokens < 1) throw ConfigError("--max-new-tokens: must be at least 1");
  if (!(s.temperature >= 0 && std::isfinite(s.temperature)))
    throw ConfigError("--temperature: must be 0 (greedy) or more");
  if (s.top_k < 0) throw ConfigError("--top-k: must be 0 (all) or more");
  if (!(s.top_p > 0 && s.top_p <= 1)) throw ConfigError("--top-p: must be in (0, 1]");
}

ExitCode run_generate(GenerateFlags flags, const Runtime& runtime) {
  check(flags);
  const LoadedModel model =
      load_model(runtime, flags.checkpoint, flags.device, flags.precision,
                 flags.allow_noncausal ? CrossToken::kAllow : CrossToken::kRefuse);
  if (!flags.domain.empty()) {
    flags.sampling.domain = parse_domain(flags.domain, model.session->config());
  }
  const auto tokenizer = model_tokenizer(model.source);
  const std::vector<int32_t> prompt = tokenizer->encode(
      flags.chat ? chat_prompt(chat_template(model.source), flags.prompt) : flags.prompt);
  if (!flags.chat) print_once(runtime, flags.prompt);
  const auto on_token = [&](int64_t id) {
    const auto token = static_cast<int32_t>(id);
    print_once(runtime, tokenizer->decode({&token, 1}));
  };
  generate(*model.session, {prompt.begin(), prompt.end()}, flags.sampling, tokenizer->vocab_size(),
           end_tokens(model.source, tokenizer->eos()), on_token);
  print_once(runtime, "\n");
  return kExitOk;
}

}  // namespace

Command add_generate(CLI::App& app) {
  auto flags = std::make_shared<GenerateFlags>();
  CLI::App* command = app.add_subcommand("generate", "Continue a prompt with a checkpoint's model");
  command
      ->add_option("--checkpoint", flags->checkpoint,
                   "A step-... folder, a run folder (its latest) or a Hugging Face folder")
      ->type_name("CHECKPOINT")
      ->required();
  command->add_option("--prompt", flags->prompt, "Text to continue")->required();
  command->add_flag("--chat", flags->chat,
                    "The prompt is a user's message: put it into the model's chat template");
  command->add_option("--max-new-tokens", flags->sampling.max_new_tokens, "Most tokens to add")
      ->type_name("TOKENS")
      ->capture_default_str();
  command
      ->add_option("--temperature", flags->sampling.temperature,
                   "Divides the logits before the draw: lower is safer, 0 takes the likeliest")
      ->type_name("T")
      ->capture_default_str();
  command->add_option("--top-k", flags->sampling.top_k, "Draw from the K likeliest tokens; 0: all")
      ->type_name("K")
      ->capture_default_str();
  command
      ->add_option("--top-p", flags->sampling.top_p,
                   "Draw from the likeliest tokens that together have this probability")
      ->type_name("SHARE")
      ->capture_default_str();
  command->add_option("--seed", flags->sampling.seed, "Seed of the draws")
      ->type_name("N")
      ->capture_default_str();
  command
      ->add_option("--domain", flags->domain,
                   "Which domain to write in, where the router chooses by it: name or index of a "
                   "source of the run's data.path")
      ->type_name("NAME");
  add_compute_options(*command, flags->device, flags->precision);
  command->add_flag("--allow-noncausal", flags->allow_noncausal,
                    "Run a model whose router or capacity looks at later tokens, too");
  command->footer(
      "Example: switchyard generate --checkpoint runs/quickstart --prompt \"It is a truth\" "
      "--temperature 0.8\n"
      "Example: switchyard generate --checkpoint hf/chat --chat --prompt \"Who was Jane Austen?\"");
  return {command, [flags](const Runtime& runtime) { return run_generate(*flags, runtime); }};
}

}  // namespace switchyard
