#include "data/prepare.h"

#include <CLI/CLI.hpp>
#include <memory>

#include "base/error.h"
#include "cli/command.h"

namespace switchyard {
namespace {

ExitCode run_prepare(const PrepareOptions& options, const Runtime& runtime) {
  if (runtime.world_size() > 1) throw ConfigError("prepare: runs alone, without mpirun");
  const PrepareSummary summary = prepare(options);
  print_once(runtime, describe(summary) + "\n");
  return kExitOk;
}

}  // namespace

Command add_prepare(CLI::App& app) {
  auto options = std::make_shared<PrepareOptions>();
  CLI::App* command = app.add_subcommand("prepare", "Turn text into token shards for training");
  command->add_option("--text", options->text, "Text files, each one document");
  command->add_option("--jsonl", options->jsonl, "JSON-lines files, each line one document");
  command->add_option("--field", options->field, "The text's key in a JSON line (default: text)");
  command->add_option("--tokenizer", options->tokenizer, "bytes (default), hf:TOKENIZER.JSON or tiktoken:FILE");
  command->add_option("--out", options->out, "Folder for train.bin, train.idx, val.bin, val.idx, meta.json")->required();
  command->add_option("--val-fraction", options->val_fraction, "Share of the stream's tail kept for validation (default: 0.05)");
  command->add_option("--name", options->name, "Domain name in meta.json");
  command->footer("Example: switchyard prepare --text novel.txt --tokenizer bytes --out data/novel");
  return {command, [options](const Runtime& runtime) { return run_prepare(*options, runtime); }};
}

}  // namespace switchyard
