#include "data/prepare.h"

#include <CLI/CLI.hpp>
#include <memory>

#include "base/error.h"
#include "cli/command.h"
#include "metrics/console.h"

namespace switchyard {
namespace {

std::string describe(const PrepareOptions& options, const PrepareSummary& summary) {
  std::string text = options.out + ": " + summary.meta.tokenizer + ", vocabulary " +
                     grouped(summary.meta.vocab_size);
  if (summary.meta.documents) text += ", " + grouped(*summary.meta.documents) + " documents";
  for (const auto& [split, tokens] : summary.meta.tokens)
    text += ", " + split + " " + grouped(tokens) + " tokens";
  return text + "\n";
}

ExitCode run_prepare(const PrepareOptions& options, const Runtime& runtime) {
  if (runtime.world_size() > 1) throw ConfigError("prepare: runs alone, without mpirun");
  print_once(runtime, describe(options, prepare(options)));
  return kExitOk;
}

}  // namespace

Command add_prepare(CLI::App& app) {
  auto options = std::make_shared<PrepareOptions>();
  CLI::App* command = app.add_subcommand("prepare", "Turn text into token shards for training");
  command->add_option("--text", options->text, "Text files, each one document")->type_name("FILE");
  command->add_option("--jsonl", options->jsonl, "JSON-lines files, each line one document")
      ->type_name("FILE");
  command->add_option("--field", options->field, "The text's key in a JSON line")
      ->type_name("NAME")
      ->capture_default_str();
  command->add_option("--tokenizer", options->tokenizer, "What turns text into tokens")
      ->type_name("bytes|hf:TOKENIZER.JSON|tiktoken:FILE")
      ->capture_default_str();
  command
      ->add_option("--out", options->out,
                   "Folder for train.bin, train.idx, val.bin, val.idx, meta.json")
      ->type_name("FOLDER")
      ->required();
  command
      ->add_option("--val-fraction", options->val_fraction,
                   "Share of all tokens, from the end, kept for validation; from 0 to below 1")
      ->type_name("SHARE")
      ->capture_default_str();
  command->add_option("--name", options->name, "Domain name in meta.json")
      ->type_name("NAME")
      ->default_str("the name of --out");
  command->footer(
      "Needs --text or --jsonl; runs alone, without mpirun.\n"
      "Example: switchyard prepare --text novel.txt --tokenizer bytes --out data/novel\n"
      "Example: switchyard prepare --jsonl docs.jsonl --field body --tokenizer hf:tokenizer.json "
      "--val-fraction 0.01 --out data/docs");
  return {command, [options](const Runtime& runtime) { return run_prepare(*options, runtime); }};
}

}  // namespace switchyard
