#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/log.h"
#include "cli/command.h"
#include "cli/command_text.h"

namespace switchyard {

void print_once(const Runtime& runtime, const std::string& text) {
  if (runtime.rank() != 0) return;
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

namespace {

/// All commands, in the groups of --help.
std::vector<Command> add_commands(CLI::App& app) {
  std::vector<Command> all;
  const auto group = [&all](const char* title, const std::vector<Command>& commands) {
    for (const Command& command : commands) {
      command.app->group(title);
      all.push_back(command);
    }
  };
  group("Train", {add_prepare(app), add_plan(app), add_train(app), add_parity(app)});
  group("Look at a model",
        {add_report(app), add_eval(app), add_generate(app), add_inspect(app), add_probe(app)});
  group("Make a model of another", {add_upcycle(app), add_import(app), add_export(app)});
  group("Look after checkpoints", {add_verify(app), add_diff(app), add_gc(app)});
  group("Measure", {add_bench(app)});
  group("Shell", {add_completion(app)});
  group(/*not listed*/ "", {add_parity_worker(app), add_man(app)});
  return all;
}

/// CLI11 says only that a subcommand is required.
void refuse_unknown_command(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  std::string known;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_name() == argv[1]) return;
    if (!command->get_group().empty()) known += (known.empty() ? "" : ", ") + command->get_name();
  }
  throw ConfigError(std::string("unknown command `") + argv[1] + "`; one of " + known);
}

}  // namespace

ExitCode run_command(int argc, char** argv, const Runtime& runtime) {
  set_log_rank(runtime.rank());
  CLI::App app("Switchyard trains Mixture-of-Experts language models, on one machine or many");
  app.name("switchyard");
  app.set_version_flag("--version", SWITCHYARD_VERSION, "Print the version and exit");
  app.require_subcommand(1);
  app.footer(
      "`switchyard COMMAND --help` tells a command's options. What computes runs alone or under "
      "mpirun -n N. The exit code says who can mend a failure: 2 the user, 3 a file, 4 the "
      "network, 75 a rank was lost, 85 asked to stop and saved, 86 not finite, 70 a bug.\n"
      "Example: switchyard prepare --text novel.txt --out data/novel\n"
      "Example: mpirun -n 2 switchyard train configs/tiny.yaml --set data.path=data/novel\n"
      "Example: switchyard generate --checkpoint runs/tiny --prompt \"It is a truth\"");
  const std::vector<Command> commands = add_commands(app);
  refuse_unknown_command(app, argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    const std::vector<CLI::App*> given = app.get_subcommands();
    print_once(runtime, help_text(given.empty() ? app : *given.front()));
    return kExitOk;
  } catch (const CLI::CallForVersion&) {
    print_once(runtime, std::string("switchyard ") + SWITCHYARD_VERSION + "\n");
    return kExitOk;
  } catch (const CLI::ParseError& error) {
    throw ConfigError(std::string(error.what()) + "\nRun with --help for the flags.");
  }
  for (const Command& command : commands) {
    if (command.app->parsed()) return command.run(runtime);
  }
  return kExitOk;
}

}  // namespace switchyard
