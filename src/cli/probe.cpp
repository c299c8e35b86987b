#include <ATen/ATen.h>

#include <CLI/CLI.hpp>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "base/file.h"
#include "base/safetensors.h"
#include "checkpoint/tensor_source.h"
#include "cli/command.h"
#include "train/layer_probe.h"
#include "train/load_run_config.h"
#include "train/model_source.h"

namespace switchyard {
namespace {

struct ProbeFlags {
  std::string config, checkpoint, input, output;
  std::vector<std::string> sets;
  int64_t layer = 0;
  bool eval = false;
};

/// Every tensor of a file.
NamedTensors read_tensors(const std::string& path) {
  const SafetensorsReader reader(path);
  NamedTensors tensors;
  for (const TensorEntry& entry : reader.tensors()) {
    if (entry.dtype != "F32" && entry.dtype != "BF16" && entry.dtype != "F16" &&
        entry.dtype != "F64" && entry.dtype != "I64") {
      throw DataError(path + ": \"" + entry.name + "\" is " + entry.dtype +
                      "; probe takes F32, F64, BF16, F16 and I64");
    }
    at::Tensor x = at::empty(entry.shape, scalar_type(entry.dtype));
    if (entry.bytes > 0) std::memcpy(x.data_ptr(), reader.data(entry), entry.bytes);
    tensors[entry.name] = x;
  }
  return tensors;
}

void write_tensors(const std::string& path, const NamedTensors& tensors) {
  std::vector<TensorDeclaration> declarations;
  for (const auto& [name, x] : tensors) {
    declarations.push_back({name, dtype_name(x.scalar_type()), x.sizes().vec()});
  }
  sort_declarations(declarations);
  SafetensorsWriter writer(path, declarations);
  for (const TensorDeclaration& declaration : declarations) {
    const at::Tensor& x = tensors.at(declaration.name);
    writer.append(x.data_ptr(), x.nbytes());
  }
  writer.finish();
}

ExitCode run_probe(const ProbeFlags& flags, const Runtime& runtime) {
  if (runtime.world_size() > 1) throw ConfigError("probe runs on one rank, without mpirun");
  if (flags.config.empty() == flags.checkpoint.empty())
    throw ConfigError("probe: give one of --config and --checkpoint");
  NamedTensors weights;
  RunConfig config;
  if (flags.checkpoint.empty()) {
    config = load_run_config(flags.config, flags.sets, /*world_size=*/1);
  } else {
    ModelSource model = open_model(flags.checkpoint);
    config = model.config;
    for (const auto& [name, shape] : layer_tensors(config, flags.layer)) {
      weights[name] = model.tensors->read(best_name(*model.tensors, name));
    }
  }
  config.model.vocab_size = std::max<int64_t>(config.model.vocab_size, 1);  // the layer has none
  config.parallel.expert = 1;
  const Mesh mesh = runtime.make_mesh(config.parallel);
  write_tensors(flags.output,
                probe_layer(config, flags.layer, flags.eval ? Mode::kEval : Mode::kTrain, mesh,
                            weights, read_tensors(flags.input)));
  return kExitOk;
}

}  // namespace

Command add_probe(CLI::App& app) {
  auto flags = std::make_shared<ProbeFlags>();
  CLI::App* command = app.add_subcommand(
      "probe", "One MoE layer on given hidden states, to be held against a reference");
  command->add_option("--config", flags->config, "Weights as training would draw them")
      ->type_name("CONFIG.yaml");
  command->add_option("--set", flags->sets, "A key over --config's; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("--checkpoint", flags->checkpoint,
                   "A step-... folder, a run folder (its latest) or a Hugging Face folder")
      ->type_name("CHECKPOINT");
  command->add_option("--layer", flags->layer, "Decoder layer, from 0")->type_name("N")->required();
  command
      ->add_option(
          "--input", flags->input,
          "safetensors with x (T, D) and, if wanted, token_ids (T), domains (T), grad_y (T, D) and "
          "weights of the layer under native names")
      ->type_name("FILE")
      ->required();
  command
      ->add_option(
          "--out", flags->output,
          "safetensors to write: logits, probs, experts, weights, kept, y, losses (balance, "
          "z); with grad_y also grad_x and grad.NAME")
      ->type_name("FILE")
      ->required();
  command->add_flag("--eval", flags->eval,
                    "As in evaluation: no jitter or dropout, capacity.eval_factor");
  command->footer(
      "Needs --config or --checkpoint.\n"
      "Example: switchyard probe --checkpoint runs/quickstart --layer 0 --input in.safetensors "
      "--out out.safetensors");
  return {command, [flags](const Runtime& runtime) { return run_probe(*flags, runtime); }};
}

}  // namespace switchyard
