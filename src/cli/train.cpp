#include <CLI/CLI.hpp>
#include <memory>
#include <optional>

#include "base/log.h"
#include "cli/command.h"
#include "cli/console_style.h"
#include "config/load_config.h"
#include "distributed/device.h"
#include "report/live_server.h"
#include "train/load_run_config.h"
#include "train/run_description.h"
#include "train/simulated_run.h"
#include "train/trainer.h"

namespace switchyard {
namespace {

struct TrainFlags {
  std::string config;
  std::vector<std::string> sets;
  std::string resume = "auto";
  std::string progress = "auto";
  std::optional<int> serve;
  std::string serve_host = "127.0.0.1";
  bool print_config = false, dry_run = false, help_config = false;
  std::optional<int> world, rank, ranks_per_host;  // of a world that is not there
};

ResumeOptions parse_resume(const std::string& word) {
  using Mode = ResumeOptions::Mode;
  if (word == "auto") return {Mode::kNewest, ""};
  if (word == "strict") return {Mode::kStrict, ""};
  if (word == "never") return {Mode::kNever, ""};
  return {Mode::kPath, word};
}

/// Rank 0 of `train --serve`. Null without it, and on the other ranks.
std::unique_ptr<LiveServer> serve(const TrainFlags& flags, const RunSection& run,
                                  const Runtime& runtime) {
  if (!flags.serve || runtime.rank() != 0) return nullptr;
  auto server =
      std::make_unique<LiveServer>(run.dir + "/" + run.name, flags.serve_host, *flags.serve);
  log_info("report   " + server->url() + " while the run goes on");
  if (!is_loopback(flags.serve_host)) {
    log_warning("--serve-host " + flags.serve_host +
                ": whoever reaches this address reads the run: " +
                "its config, paths, tokens and numbers; there is no password and no encryption");
  }
  return server;
}

/// The dry run of one rank of a world that is not there.
ExitCode simulate(const TrainFlags& flags, const Runtime& runtime) {
  if (runtime.world_size() > 1)
    throw ConfigError("--world: runs alone, without mpirun; it stands for the other ranks");
  SimulatedPlace place;
  place.world_size = *flags.world;
  place.rank = flags.rank.value_or(0);
  place.ranks_per_host = flags.ranks_per_host.value_or(place.ranks_per_host);
  if (place.rank >= place.world_size) {
    throw ConfigError("--rank " + std::to_string(place.rank) + ": a world of " +
                      std::to_string(place.world_size) + " ranks has 0 to " +
                      std::to_string(place.world_size - 1));
  }
  print_once(runtime,
             simulate_run(load_run_config(flags.config, flags.sets, place.world_size), place));
  return kExitOk;
}

ExitCode run_train(const TrainFlags& flags, const Runtime& runtime) {
  if (flags.help_config) {
    print_once(runtime, config_help());
    return kExitOk;
  }
  if (flags.config.empty()) throw ConfigError("train: CONFIG.yaml is required");
  if (flags.world) return simulate(flags, runtime);
  const RunConfig config = load_run_config(flags.config, flags.sets, runtime.world_size());
  if (flags.print_config) {
    print_once(runtime, to_yaml(config));
    return kExitOk;
  }
  if (flags.dry_run) {
    print_once(runtime, describe_run(config, runtime.world_size()));
    return kExitOk;
  }
  select_device(config.train.device, runtime.local_rank());  // before the data are read
  const std::unique_ptr<LiveServer> server = serve(flags, config.run, runtime);
  return run_training(runtime, config, parse_resume(flags.resume),
                      console_style(runtime, flags.progress));
}

}  // namespace

Command add_train(CLI::App& app) {
  auto flags = std::make_shared<TrainFlags>();
  CLI::App* command = app.add_subcommand("train", "Train the model that CONFIG.yaml describes");
  command->add_option("config", flags->config, "Model, data, layout, steps: see --help-config")
      ->type_name("CONFIG.yaml");
  command
      ->add_option("--set", flags->sets,
                   "A key over the file's, as optim.lr=2e-3; the value is YAML. May be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("--resume", flags->resume,
                   "auto: go on from the run's newest valid checkpoint; strict: insist on one; "
                   "never: start over; or the checkpoint to go on from")
      ->type_name("auto|strict|never|CHECKPOINT")
      ->capture_default_str();
  command
      ->add_option("--progress", flags->progress,
                   "A bar below the lines; auto: on a terminal, without mpirun")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->type_name("auto|on|off")
      ->capture_default_str();
  command->add_flag("--print-config", flags->print_config, "Print the resolved config and stop");
  CLI::Option* dry_run =
      command->add_flag("--dry-run", flags->dry_run, "Print model, layout and memory and stop");
  CLI::Option* world =
      command
          ->add_option(
              "--world", flags->world,
              "With --dry-run: build one rank of a world of so many that is not there, and "
              "count what it holds and sends in a step")
          ->type_name("RANKS")
          ->check(CLI::Range(1, 1 << 20))
          ->needs(dry_run);
  command->add_option("--rank", flags->rank, "With --world: which one. Default: 0")
      ->type_name("RANK")
      ->check(CLI::Range(0, 1 << 20))
      ->needs(world);
  command
      ->add_option("--ranks-per-host", flags->ranks_per_host,
                   "With --world: neighbours that share a host. Default: 8")
      ->type_name("RANKS")
      ->check(CLI::Range(1, 1 << 20))
      ->needs(world);
  command->add_flag("--help-config", flags->help_config,
                    "Print every key with type, default, unit and meaning and stop");
  CLI::Option* serve_option =
      command
          ->add_option(
              "--serve", flags->serve,
              "Show the report of the run, live, on http://127.0.0.1:PORT/; 0: any free port")
          ->type_name("PORT")
          ->check(CLI::Range(0, 65535));
  command
      ->add_option(
          "--serve-host", flags->serve_host,
          "The address that --serve listens on; unless given, this machine alone reaches it")
      ->type_name("ADDRESS")
      ->capture_default_str()
      ->needs(serve_option);
  command->footer(
      "Run again, it goes on from the newest checkpoint, on any number of ranks. Exit codes 75, 85 "
      "and 4 mean that starting it again is the cure.\n"
      "Example: switchyard train configs/quickstart.yaml --dry-run\n"
      "Example: switchyard train configs/presets/qwen3_235b_a22b.yaml --dry-run --world 1024\n"
      "Example: mpirun -n 2 switchyard train configs/quickstart.yaml --set optim.lr=2e-3\n"
      "Example: mpirun -n 4 switchyard train configs/quickstart.yaml --set parallel.expert=4 "
      "--resume strict");
  return {command, [flags](const Runtime& runtime) { return run_train(*flags, runtime); }};
}

}  // namespace switchyard
