#include <CLI/CLI.hpp>
#include <memory>

#include "base/log.h"
#include "cli/command.h"
#include "hf/export_model.h"
#include "metrics/console.h"
#include "train/model_receipt.h"
#include "train/model_source.h"

namespace switchyard {
namespace {

struct ExportFlags {
  std::string checkpoint, format = "auto", out, dtype, shard_size = "5GB";
};

std::string words_of_families(const std::string& separator) {
  std::string words;
  for (const std::string& word : family_words()) words += separator + word;
  return words;
}

/// Nothing for auto.
std::optional<Family> parse_format(const std::string& word) {
  if (word == "auto") return std::nullopt;
  const std::optional<Family> family = parse_family(word);
  if (!family) {
    throw ConfigError("--format: `" + word + "` is not one of auto" + words_of_families(", "));
  }
  return family;
}

std::optional<at::ScalarType> parse_dtype(const std::string& word) {
  if (word.empty()) return std::nullopt;
  if (word == "fp32") return at::kFloat;
  if (word == "bf16") return at::kBFloat16;
  throw ConfigError("--dtype: `" + word + "` is not one of bf16, fp32");
}

/// "5GB", "512MiB", "1000000B" in bytes.
uint64_t parse_size(const std::string& text) {
  const std::pair<const char*, uint64_t> units[] = {{"KB", 1'000},
                                                    {"MB", 1'000'000},
                                                    {"GB", 1'000'000'000},
                                                    {"KiB", uint64_t{1} << 10},
                                                    {"MiB", uint64_t{1} << 20},
                                                    {"GiB", uint64_t{1} << 30},
                                                    {"B", 1}};
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  for (const auto& [unit, bytes] : units) {
    if (digits < 1 || digits > 9 || text.substr(digits) != unit) continue;
    const uint64_t size = std::stoull(text) * bytes;
    if (size > 0) return size;
  }
  throw ConfigError("--shard-size: `" + text +
                    "` is not a size; write a whole number and KB, MB, GB, KiB, MiB or GiB: 5GB");
}

std::string without_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

std::string describe(const ExportSummary& summary, Family family, const std::string& out) {
  return out + ": " + to_string(family) + ", " + std::to_string(summary.tensors) + " tensors, " +
         bytes_text(static_cast<int64_t>(summary.bytes)) + " in " + std::to_string(summary.shards) +
         (summary.shards == 1 ? " file\n" : " files\n");
}

ExitCode run_export(const ExportFlags& flags, const Runtime& runtime) {
  if (runtime.rank() != 0) return kExitOk;
  const std::optional<Family> format = parse_format(flags.format);
  ExportOptions options;
  options.dtype = parse_dtype(flags.dtype);
  options.shard_bytes = parse_size(flags.shard_size);
  const std::string out = without_slashes(flags.out);
  ModelSource model = open_model(flags.checkpoint);
  options.family =
      format ? *format
             : choose_family(imported_family(model.files), model.config.model, model.config.moe);
  const ExportSummary summary = export_model(*model.tensors, export_facts(model), options, out);
  if (!summary.warning.empty()) log_warning(summary.warning + ": none is written");
  print_once(runtime, describe(summary, options.family, out));
  return kExitOk;
}

}  // namespace

Command add_export(CLI::App& app) {
  auto flags = std::make_shared<ExportFlags>();
  CLI::App* command = app.add_subcommand(
      "export", "Write a checkpoint as a folder for transformers, vLLM and llama.cpp");
  command
      ->add_option("--checkpoint", flags->checkpoint,
                   "A step-... folder, a run folder (its latest) or a Hugging Face folder")
      ->type_name("CHECKPOINT")
      ->required();
  command
      ->add_option("--format", flags->format,
                   "The family to write; auto: the one that was imported, else the first that can "
                   "express the model")
      ->type_name("auto" + words_of_families("|"))
      ->capture_default_str();
  command->add_option("--out", flags->out, "The folder to make; it must not exist")
      ->type_name("FOLDER")
      ->required();
  command->add_option("--dtype", flags->dtype, "Type of the weights")
      ->type_name("bf16|fp32")
      ->default_str("as they are stored");
  command
      ->add_option("--shard-size", flags->shard_size,
                   "Most bytes of tensors in one file, with a unit: B, KB, MB, GB, KiB, MiB, GiB")
      ->type_name("BYTES")
      ->capture_default_str();
  command->footer(
      "Example: switchyard export --checkpoint runs/quickstart --out hf/quickstart\n"
      "Example: switchyard export --checkpoint runs/quickstart --format qwen3_moe --dtype bf16 "
      "--shard-size 500MB --out hf/small");
  return {command, [flags](const Runtime& runtime) { return run_export(*flags, runtime); }};
}

}  // namespace switchyard
