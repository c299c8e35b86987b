#include "train/parity.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "base/file.h"
#include "base/log.h"
#include "cli/command.h"
#include "train/load_run_config.h"

extern char** environ;

namespace switchyard {
namespace {

using nlohmann::json;

struct ParityFlags {
  std::string config, layouts = "1x1,2x1,2x2,4x2,4x4", plant = "none";
  std::vector<std::string> sets;
  int64_t steps = 3;
  bool json = false;
};

struct WorkerFlags {
  std::string config, layout, folder, plant = "none";
  std::vector<std::string> sets;
  int64_t steps = 3;
  bool reference = false;
};

/// A folder that is gone at the end of the scope.
class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_((std::filesystem::temp_directory_path() / "switchyard-parity-XXXXXX").string()) {
    if (::mkdtemp(path_.data()) == nullptr)
      throw DataError(path_ + ": cannot make a temporary folder; set TMPDIR");
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Runs a program to its end. Throws Error with its exit code unless that is 0.
void run_program(std::vector<std::string> words, const std::string& what) {
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t child = 0;
  if (::posix_spawnp(&child, arguments[0], nullptr, nullptr, arguments.data(), environ) != 0) {
    throw CommError("parity: cannot start " + words[0] + "; is Open MPI installed?");
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : kExitComm;
  if (code != 0)
    throw Error(static_cast<ExitCode>(code),
                "parity: " + what + " ended with exit code " + std::to_string(code));
}

void start_world(const ParityFlags& flags, const Layout& layout, const std::string& folder,
                 bool reference) {
  std::vector<std::string> words = {"mpirun",          "-n",        std::to_string(layout.ranks),
                                    "--oversubscribe", "--bind-to", "none"};
  if (::geteuid() == 0) words.push_back("--allow-run-as-root");
  words.insert(words.end(),
               {std::filesystem::read_symlink("/proc/self/exe").string(), "parity-worker",
                flags.config, "--layout", layout.text, "--folder", folder, "--steps",
                std::to_string(flags.steps), "--plant", flags.plant});
  if (reference) words.push_back("--reference");
  for (const std::string& set : flags.sets) words.insert(words.end(), {"--set", set});
  run_program(words, "layout " + layout.text);
}

std::string as_line(const json& row) {
  char text[256];
  std::snprintf(
      text, sizeof text,
      "%-8s %-6s loss %.1e  norm %.1e  gradient %.1e  flips %lld  drops %s  samples %s  worst ",
      row["layout"].get<std::string>().c_str(), row["ok"] ? "equal" : "DIFFER",
      row["loss"].get<double>(), row["norm"].get<double>(), row["gradient"].get<double>(),
      row["flips"].get<long long>(), row["dropped_equal"] ? "equal" : "DIFFER",
      row["samples_equal"] ? "equal" : "DIFFER");
  return text + row["worst_parameter"].get<std::string>();
}

/// Settings that depend on the layout by their definition.
std::vector<std::string> layout_dependent(const MoeConfig& moe) {
  std::vector<std::string> found;
  if (moe.capacity.factor && moe.capacity.scope == "rank")
    found.emplace_back("moe.capacity.scope: rank");
  for (const BalanceConfig& balance : moe.balance) {
    if (balance.scope == "micro_batch") found.emplace_back("moe.balance.scope: micro_batch");
  }
  return found;
}

ExitCode run_parity(const ParityFlags& flags, const Runtime& runtime) {
  if (runtime.world_size() > 1)
    throw ConfigError("parity: runs alone; it starts the worlds itself with mpirun");
  const RunConfig config = load_run_config(flags.config, flags.sets, /*world_size=*/0);
  const std::vector<Layout> layouts = parse_layouts(flags.layouts);
  parse_plant(flags.plant);
  if (layouts.size() < 2)
    throw ConfigError(
        "--layouts: needs at least two, the first is what the others are compared with");
  if (flags.steps < 1) throw ConfigError("--steps: must be at least 1");
  const TemporaryFolder folder;
  json rows = json::array();
  bool ok = true;
  for (const Layout& layout : layouts) {
    const bool reference = &layout == &layouts.front();
    start_world(flags, layout, folder.path(), reference);
    if (reference) continue;
    rows.push_back(compare_layouts(folder.path(), layouts.front(), layout, flags.steps,
                                   config.moe.group_sequences));
    ok = ok && rows.back()["ok"];
    if (!flags.json) print_once(runtime, as_line(rows.back()) + "\n");
  }
  const auto dependent = layout_dependent(config.moe);
  for (const std::string& setting : dependent)
    log_warning(setting + " depends on the layout; differences are expected");
  if (flags.json) {
    print_once(runtime, json{{"ok", ok},
                             {"reference", layouts.front().text},
                             {"layouts", rows},
                             {"layout_dependent", dependent}}
                                .dump() +
                            "\n");
  }
  return ok ? kExitOk : kExitDiffer;
}

ExitCode run_worker(const WorkerFlags& flags, const Runtime& runtime) {
  const Layout layout = parse_layouts(flags.layout).front();
  const RunConfig config = load_run_config(flags.config, flags.sets, /*world_size=*/0);
  run_parity_worker(runtime, config, layout, flags.steps, flags.folder, flags.reference,
                    parse_plant(flags.plant));
  return kExitOk;
}

}  // namespace

Command add_parity(CLI::App& app) {
  auto flags = std::make_shared<ParityFlags>();
  CLI::App* command =
      app.add_subcommand("parity", "Show that the layout does not change the model of CONFIG.yaml");
  command->add_option("config", flags->config, "The config to try")
      ->type_name("CONFIG.yaml")
      ->required();
  command->add_option("--set", flags->sets, "A key over the file's; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("--layouts", flags->layouts,
                   "RANKSxEP, comma-separated; RANKSxEPaN for N micro-batches per step, zS for "
                   "ZeRO stage S, as in 4x2a2z2. The first is the one the others are held against")
      ->type_name("LAYOUTS")
      ->capture_default_str();
  command->add_option("--steps", flags->steps, "Optimizer steps to compare")
      ->type_name("STEPS")
      ->capture_default_str();
  command->add_option("--plant", flags->plant, "Make a known mistake on purpose, to see it found")
      ->type_name("expert-mean|norm-twice|balance-times-micro|capacity-rank");
  command->add_flag("--json", flags->json, "One JSON object on stdout");
  command->footer(
      "Runs without mpirun: it starts the worlds itself, one after another, on this machine. Exit "
      "code 1 when a layout differs.\n"
      "Example: switchyard parity configs/tiny.yaml --layouts 1x1,2x2,4x2\n"
      "Example: switchyard parity configs/tiny.yaml --layouts 1x1,2x2 --steps 1 --plant "
      "norm-twice");
  return {command, [flags](const Runtime& runtime) { return run_parity(*flags, runtime); }};
}

Command add_parity_worker(CLI::App& app) {
  auto flags = std::make_shared<WorkerFlags>();
  CLI::App* command = app.add_subcommand("parity-worker", "One world of `parity`, which starts it");
  command->group("");  // not listed in the help
  command->add_option("config", flags->config)->required();
  command->add_option("--set", flags->sets)->allow_extra_args(false);
  command->add_option("--layout", flags->layout)->required();
  command->add_option("--folder", flags->folder)->required();
  command->add_option("--steps", flags->steps);
  command->add_option("--plant", flags->plant);
  command->add_flag("--reference", flags->reference);
  return {command, [flags](const Runtime& runtime) { return run_worker(*flags, runtime); }};
}

}  // namespace switchyard
