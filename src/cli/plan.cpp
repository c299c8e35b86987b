#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "metrics/console.h"
#include "model/memory_plan.h"
#include "train/load_run_config.h"
#include "train/session.h"

namespace switchyard {
namespace {

struct PlanFlags {
  std::string config;
  std::vector<std::string> sets;
  int64_t ranks = 1;
  bool json = false;
};

struct Plan {
  ModelSize size;
  std::string precision;
  ParameterBytes bytes;

  int64_t total_bytes() const { return bytes.weights + bytes.gradients + bytes.optimizer; }
};

Plan make_plan(const RunConfig& config, int64_t ranks) {
  if (config.model.vocab_size == kAuto) {
    throw ConfigError("plan reads no data: give model.vocab_size, here auto, a number");
  }
  const at::ScalarType compute = compute_dtype(config.train);
  const ModelSize size = model_size(config.model, config.moe, config.data.sequence_length);
  return {size, compute == at::kFloat ? "fp32" : "bf16",
          planned_bytes(size, config.parallel, config.zero.stage, compute, ranks)};
}

std::string as_json(const Plan& plan, const RunConfig& config, int64_t ranks) {
  return nlohmann::ordered_json{{"parameters_total", plan.size.total_parameters()},
                                {"parameters_active", plan.size.active_parameters},
                                {"ranks", ranks},
                                {"expert", config.parallel.expert},
                                {"zero", config.zero.stage},
                                {"precision", plan.precision},
                                {"bytes_per_rank",
                                 {{"parameters", plan.bytes.weights},
                                  {"gradients", plan.bytes.gradients},
                                  {"optimizer", plan.bytes.optimizer},
                                  {"total", plan.total_bytes()}}}}
             .dump() +
         "\n";
}

std::string as_text(const Plan& plan, const RunConfig& config, int64_t ranks) {
  const auto line = [](const char* what, int64_t bytes) {
    return "  " + std::string(what) + grouped(bytes) + " bytes (" + bytes_text(bytes) + ")\n";
  };
  return "parameters   " + grouped(plan.size.total_parameters()) + ", active per token " +
         grouped(plan.size.active_parameters) + "\nlayout       " + std::to_string(ranks) +
         " ranks = EP " + std::to_string(config.parallel.expert) + " x EDP " +
         std::to_string(ranks / config.parallel.expert) + ", ZeRO-" +
         std::to_string(config.zero.stage) + ", " + plan.precision + "\nper rank\n" +
         line("parameters ", plan.bytes.weights) + line("gradients  ", plan.bytes.gradients) +
         line("optimizer  ", plan.bytes.optimizer) + line("together   ", plan.total_bytes());
}

ExitCode run_plan(const PlanFlags& flags, const Runtime& runtime) {
  if (runtime.rank() != 0) return kExitOk;
  const RunConfig config = load_run_config(flags.config, flags.sets, static_cast<int>(flags.ranks));
  const Plan plan = make_plan(config, flags.ranks);
  print_once(runtime,
             flags.json ? as_json(plan, config, flags.ranks) : as_text(plan, config, flags.ranks));
  return kExitOk;
}

}  // namespace

Command add_plan(CLI::App& app) {
  auto flags = std::make_shared<PlanFlags>();
  CLI::App* command = app.add_subcommand(
      "plan", "Parameters of CONFIG.yaml and the memory that they take on each rank");
  command->add_option("config", flags->config, "CONFIG.yaml, with model.vocab_size")->required();
  command->add_option("--ranks", flags->ranks, "Ranks of the run to plan")
      ->required()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  command->add_option("--set", flags->sets, "key.path=value over the file; may be repeated")
      ->allow_extra_args(false);
  command->add_flag("--json", flags->json, "One JSON object on stdout");
  command->footer(
      "Example: switchyard plan configs/quickstart.yaml --ranks 4 --set model.vocab_size=4096");
  return {command, [flags](const Runtime& runtime) { return run_plan(*flags, runtime); }};
}

}  // namespace switchyard
