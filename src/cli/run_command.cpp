#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/log.h"
#include "cli/command.h"

namespace switchyard {

void print_once(const Runtime& runtime, const std::string& text) {
  if (runtime.rank() != 0) return;
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

namespace {

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
  CLI::App app(
      "Switchyard trains Mixture-of-Experts language models: mpirun -n N switchyard train "
      "run.yaml");
  app.set_version_flag("--version", SWITCHYARD_VERSION);
  app.require_subcommand(1);
  const std::vector<Command> commands = {
      add_train(app),         add_prepare(app), add_eval(app),    add_generate(app),
      add_import(app),        add_export(app),  add_inspect(app), add_verify(app),
      add_diff(app),          add_gc(app),      add_plan(app),    add_parity(app),
      add_parity_worker(app), add_probe(app),   add_report(app),  add_upcycle(app)};
  refuse_unknown_command(app, argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    print_once(runtime, app.help());
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
