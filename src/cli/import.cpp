#include <CLI/CLI.hpp>
#include <memory>

#include "base/log.h"
#include "cli/command.h"
#include "config/load_config.h"
#include "hf/export_model.h"
#include "hf/hf_folder.h"
#include "metrics/console.h"
#include "model/model_size.h"
#include "train/model_source.h"
#include "train/save_model.h"

namespace switchyard {
namespace {

struct ImportFlags {
  std::string from, out;
};

std::string describe(const ModelSource& model, const std::string& family, const std::string& out) {
  const ModelSize size = model_size(model.config.model, model.config.moe, /*sequence_length=*/1);
  return out + ": " + family + ", " + std::to_string(model.tensors->tensors().size()) +
         " tensors, " + grouped(size.total_parameters()) + " parameters, " +
         grouped(size.active_parameters) + " active\n";
}

ExitCode run_import(const ImportFlags& flags, const Runtime& runtime) {
  if (!is_hf_folder(flags.from)) {
    throw DataError(flags.from + ": not a Hugging Face folder: it has no config.json");
  }
  const Mesh mesh = runtime.make_mesh(ParallelConfig{});
  ModelSource model = open_model(flags.from);
  const std::string family = to_string(*imported_family(model.files));
  save_model(*mesh.world, model, flags.out);
  if (!model.meta) {
    log_warning(flags.from + " has no tokenizer.json: the model has no tokenizer");
  }
  print_once(runtime, describe(model, family, flags.out));
  return kExitOk;
}

}  // namespace

Command add_import(CLI::App& app) {
  auto flags = std::make_shared<ImportFlags>();
  CLI::App* command = app.add_subcommand("import", "Make a checkpoint of a Hugging Face folder");
  command->add_option("--from", flags->from, "Folder with config.json and model*.safetensors")
      ->type_name("FOLDER")
      ->required();
  command->add_option("--out", flags->out, "The run folder to make")
      ->type_name("FOLDER")
      ->required();
  command->footer(
      "Ranks share the writing under mpirun.\n"
      "Example: switchyard import --from hf/llama --out runs/llama\n"
      "Example: mpirun -n 2 switchyard import --from hf/llama --out runs/llama");
  return {command, [flags](const Runtime& runtime) { return run_import(*flags, runtime); }};
}

}  // namespace switchyard
