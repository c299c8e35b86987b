#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/command.h"
#include "cli/load_model.h"
#include "metrics/console.h"
#include "train/domain.h"
#include "train/evaluator.h"

namespace switchyard {
namespace {

struct EvalFlags {
  std::string checkpoint, data, split = "val", device = "cpu", precision = "fp32", domain;
  int64_t sequence_length = 0, batches = 0;
  bool json = false, allow_noncausal = false;
};

void check(const EvalFlags& flags) {
  if (flags.sequence_length < 0) throw ConfigError("--sequence-length: must be at least 1");
  if (flags.batches < 0) throw ConfigError("--batches: must be 0 (the whole split) or more");
}

ExitCode run_eval(const EvalFlags& flags, const Runtime& runtime) {
  check(flags);
  const LoadedModel model =
      load_model(runtime, flags.checkpoint, flags.device, flags.precision,
                 flags.allow_noncausal ? CrossToken::kAllow : CrossToken::kRefuse);
  Session& session = *model.session;
  check_tokenizer(model.source, flags.data);
  const int64_t length =
      flags.sequence_length > 0 ? flags.sequence_length : session.config().data.sequence_length;
  const int64_t sequences = flags.batches * session.config().train.global_batch_size;
  std::optional<int64_t> domain;
  if (!flags.domain.empty()) domain = parse_domain(flags.domain, session.config());
  const EvalMetrics metrics =
      *evaluate(session, flags.data, flags.split, length, sequences, /*stop=*/nullptr, domain);
  if (flags.json) {
    nlohmann::json result = {{"step", metrics.step},     {"split", metrics.split},
                             {"loss", metrics.loss},     {"perplexity", metrics.perplexity()},
                             {"bits_per_byte", nullptr}, {"tokens", metrics.tokens}};
    if (metrics.bits_per_byte) result["bits_per_byte"] = *metrics.bits_per_byte;
    print_once(runtime, result.dump() + "\n");
  } else {
    print_once(runtime, eval_line(metrics, session.config().train.steps, Colour::kOff) + "\n");
  }
  return kExitOk;
}

}  // namespace

Command add_eval(CLI::App& app) {
  auto flags = std::make_shared<EvalFlags>();
  CLI::App* command =
      app.add_subcommand("eval", "Loss, perplexity and bits per byte of a checkpoint on a split");
  command
      ->add_option("--checkpoint", flags->checkpoint,
                   "A step-... folder, a run folder (its latest) or a Hugging Face folder")
      ->type_name("CHECKPOINT")
      ->required();
  command->add_option("--data", flags->data, "Folder that `prepare` made")
      ->type_name("FOLDER")
      ->required();
  command->add_option("--split", flags->split, "Which part of the data")
      ->type_name("val|train")
      ->capture_default_str();
  command->add_option("--sequence-length", flags->sequence_length, "Tokens per sequence")
      ->type_name("TOKENS")
      ->default_str("the run's data.sequence_length");
  command->add_option("--batches", flags->batches, "Global batches to read, from the split's start")
      ->type_name("BATCHES")
      ->default_str("the whole split");
  command
      ->add_option("--domain", flags->domain,
                   "Which domain the text is of, where the router chooses by it: name or index of "
                   "a source of the run's data.path")
      ->type_name("NAME");
  add_compute_options(*command, flags->device, flags->precision);
  command->add_flag("--json", flags->json, "One JSON object on stdout");
  command->add_flag("--allow-noncausal", flags->allow_noncausal,
                    "Run a model whose router or capacity looks at later tokens, too");
  command->footer(
      "Example: switchyard eval --checkpoint runs/quickstart --data data/quickstart\n"
      "Example: mpirun -n 2 switchyard eval --checkpoint runs/quickstart --data data/quickstart "
      "--split train --batches 8 --json");
  return {command, [flags](const Runtime& runtime) { return run_eval(*flags, runtime); }};
}

}  // namespace switchyard
