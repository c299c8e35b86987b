#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "distributed/runtime.h"

namespace CLI {
class App;
}

namespace switchyard {

/// One subcommand: its flags are declared on `app`, `run` is called when it was
/// the one given. Returns the exit code; failures are exceptions.
struct Command {
  CLI::App* app;
  std::function<ExitCode(const Runtime&)> run;
};

/// Parses the command line and runs the subcommand it names. Wrong flags throw
/// ConfigError; --help and --version print on rank 0 and return kExitOk.
ExitCode run_command(int argc, char** argv, const Runtime& runtime);

// One per file of this folder: declares the flags and returns what to run.
Command add_bench(CLI::App& app);
Command add_completion(CLI::App& app);
Command add_diff(CLI::App& app);
Command add_eval(CLI::App& app);
Command add_export(CLI::App& app);
Command add_gc(CLI::App& app);
Command add_generate(CLI::App& app);
Command add_import(CLI::App& app);
Command add_inspect(CLI::App& app);
Command add_man(CLI::App& app);
Command add_parity(CLI::App& app);
Command add_parity_worker(CLI::App& app);
Command add_plan(CLI::App& app);
Command add_prepare(CLI::App& app);
Command add_probe(CLI::App& app);
Command add_report(CLI::App& app);
Command add_train(CLI::App& app);
Command add_upcycle(CLI::App& app);
Command add_verify(CLI::App& app);

/// Prints on rank 0's stdout and flushes.
void print_once(const Runtime& runtime, const std::string& text);

}  // namespace switchyard
