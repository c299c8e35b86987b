#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>

#include "base/error.h"
#include "cli/command.h"
#include "cli/load_model.h"
#include "data/dataset_meta.h"
#include "data/tokenizer.h"
#include "train/generator.h"

namespace switchyard {
namespace {

struct GenerateFlags {
  std::string checkpoint, prompt, precision = "fp32";
  SamplingOptions sampling;
};

void check(const GenerateFlags& flags) {
  const SamplingOptions& s = flags.sampling;
  if (flags.prompt.empty()) throw ConfigError("--prompt: must not be empty");
  if (s.max_new_tokens < 1) throw ConfigError("--max-new-tokens: must be at least 1");
  if (!(s.temperature >= 0 && std::isfinite(s.temperature)))
    throw ConfigError("--temperature: must be 0 (greedy) or more");
  if (s.top_k < 0) throw ConfigError("--top-k: must be 0 (all) or more");
  if (!(s.top_p > 0 && s.top_p <= 1)) throw ConfigError("--top-p: must be in (0, 1]");
}

ExitCode run_generate(const GenerateFlags& flags, const Runtime& runtime) {
  check(flags);
  const LoadedModel model = load_model(runtime, flags.checkpoint, flags.precision);
  const auto tokenizer = load_dataset_tokenizer(model.step_dir, read_dataset_meta(model.step_dir));
  const std::vector<int32_t> prompt = tokenizer->encode(flags.prompt);
  print_once(runtime, flags.prompt);
  const auto on_token = [&](int64_t id) {
    const auto token = static_cast<int32_t>(id);
    print_once(runtime, tokenizer->decode({&token, 1}));
  };
  generate(*model.session, {prompt.begin(), prompt.end()}, flags.sampling, tokenizer->vocab_size(),
           tokenizer->eos(), on_token);
  print_once(runtime, "\n");
  return kExitOk;
}

}  // namespace

Command add_generate(CLI::App& app) {
  auto flags = std::make_shared<GenerateFlags>();
  CLI::App* command = app.add_subcommand("generate", "Continue a prompt with a checkpoint's model");
  command
      ->add_option("--checkpoint", flags->checkpoint,
                   "A step-... folder or a run folder (its latest)")
      ->required();
  command->add_option("--prompt", flags->prompt, "Text to continue")->required();
  command->add_option("--max-new-tokens", flags->sampling.max_new_tokens,
                      "Most tokens to add (default: 128)");
  command->add_option("--temperature", flags->sampling.temperature, "0 is greedy (default: 1)");
  command->add_option("--top-k", flags->sampling.top_k,
                      "Only the k likeliest tokens (default: 0, all)");
  command->add_option("--top-p", flags->sampling.top_p,
                      "Only the likeliest tokens of this mass (default: 1)");
  command->add_option("--seed", flags->sampling.seed, "Of the draws (default: 1234)");
  command->add_option("--precision", flags->precision, "fp32 (default), bf16 or auto");
  command->footer(
      "Example: switchyard generate --checkpoint runs/quickstart --prompt \"It is a truth\" "
      "--temperature 0.8");
  return {command, [flags](const Runtime& runtime) { return run_generate(*flags, runtime); }};
}

}  // namespace switchyard
