#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "checkpoint/verify_checkpoint.h"
#include "cli/command.h"
#include "cli/own_checkpoint.h"
#include "metrics/console.h"

namespace switchyard {
namespace {

using nlohmann::json;

struct VerifyFlags {
  std::string checkpoint;
  bool json = false;
};

struct Verdict {
  std::vector<std::string> problems;
  uint64_t bytes = 0;
};

/// Every rank reads its part; all know the whole. Collective.
Verdict verify_together(Communicator& world, const std::string& step_dir) {
  uint64_t bytes = 0;
  const std::vector<std::string> problems =
      verify_checkpoint(step_dir, world.rank(), world.size(), &bytes);
  const std::string mine = json{{"problems", problems}, {"bytes", bytes}}.dump(
      -1, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace);
  Verdict verdict;
  for (const std::string& text : all_gather_text(world, mine, "verdicts on a checkpoint")) {
    const json part = json::parse(text);
    verdict.bytes += part["bytes"].get<uint64_t>();
    for (const json& problem : part["problems"]) {
      // What all ranks met, such as a manifest that cannot be read, is told once.
      if (std::ranges::count(verdict.problems, problem.get<std::string>()) > 0) continue;
      verdict.problems.push_back(problem);
    }
  }
  return verdict;
}

std::string as_text(const std::string& step_dir, const Verdict& verdict) {
  std::string text;
  for (const std::string& problem : verdict.problems) text += problem + "\n";
  const size_t count = verdict.problems.size();
  text += step_dir + ": ";
  if (count == 0) text += "whole";
  if (count == 1) text += "1 fault";
  if (count > 1) text += std::to_string(count) + " faults";
  return text + "; " + grouped(static_cast<int64_t>(verdict.bytes)) + " bytes verified\n";
}

ExitCode run_verify(const VerifyFlags& flags, const Runtime& runtime) {
  const Mesh mesh = runtime.make_mesh(ParallelConfig{});
  Communicator& world = *mesh.world;
  const std::string found =
      world.rank() == 0 ? own_checkpoint(flags.checkpoint, Damaged::kTake) : "";
  const std::string step_dir = broadcast_text(world, found, /*root=*/0, "checkpoint to verify");
  const Verdict verdict = verify_together(world, step_dir);
  const bool ok = verdict.problems.empty();
  print_once(runtime, flags.json ? json{{"ok", ok},
                                        {"checkpoint", step_dir},
                                        {"bytes", verdict.bytes},
                                        {"problems", verdict.problems}}
                                           .dump(-1, ' ', /*ensure_ascii=*/false,
                                                 json::error_handler_t::replace) +
                                       "\n"
                                 : as_text(step_dir, verdict));
  return ok ? kExitOk : kExitData;
}

}  // namespace

Command add_verify(CLI::App& app) {
  auto flags = std::make_shared<VerifyFlags>();
  CLI::App* command = app.add_subcommand(
      "verify",
      "Hold every byte of a checkpoint against its digest; exit code 3 when one is wrong");
  command
      ->add_option("checkpoint", flags->checkpoint,
                   "A step-... folder or a run folder (its latest)")
      ->type_name("CHECKPOINT")
      ->required();
  command->add_flag("--json", flags->json, "One JSON object on stdout");
  command->footer(
      "Ranks share the reading under mpirun.\n"
      "Example: switchyard verify runs/quickstart\n"
      "Example: mpirun -n 4 switchyard verify runs/quickstart/checkpoints/step-00000400 --json");
  return {command, [flags](const Runtime& runtime) { return run_verify(*flags, runtime); }};
}

}  // namespace switchyard
