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

ExitCode run_command(int argc, char** argv, const Runtime& runtime) {
  set_log_rank(runtime.rank());
  CLI::App app(
      "Switchyard trains Mixture-of-Experts language models: mpirun -n N switchyard train "
      "run.yaml");
  app.set_version_flag("--version", SWITCHYARD_VERSION);
  app.require_subcommand(1);
  const std::vector<Command> commands = {add_train(app),  add_prepare(app),
                                         add_eval(app),   add_generate(app),
                                         add_parity(app), add_parity_worker(app)};
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
