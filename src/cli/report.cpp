#include <CLI/CLI.hpp>
#include <memory>

#include "base/file.h"
#include "base/log.h"
#include "cli/command.h"
#include "report/page.h"
#include "report/run_view.h"

namespace switchyard {
namespace {

struct ReportFlags {
  std::vector<std::string> runs;
  std::string out;
};

ExitCode run_report(const ReportFlags& flags, const Runtime& runtime) {
  if (runtime.rank() != 0) return kExitOk;
  const std::vector<RunView> runs = open_runs(flags.runs);
  const nlohmann::ordered_json model = report_model(runs);
  for (const auto& run : model["runs"]) {
    for (const std::string note : run["notes"]) {
      log_warning(run["label"].get<std::string>() + ": " + note);
    }
  }
  const std::string out = flags.out.empty() ? flags.runs.front() + "/report.html" : flags.out;
  const std::string page = report_page(model, PageKind::kStandalone);
  write_file_atomically(out, page);
  print_once(runtime, out + ": " + std::to_string((page.size() + 1023) / 1024) +
                          " KiB; open it in a browser\n");
  return kExitOk;
}

}  // namespace

Command add_report(CLI::App& app) {
  auto flags = std::make_shared<ReportFlags>();
  CLI::App* command = app.add_subcommand(
      "report", "Draw one or several runs: one HTML file that opens anywhere, without a network");
  command->add_option("runs", flags->runs, "Run folders; the first names the page")
      ->type_name("RUN")
      ->required();
  command->add_option("--out", flags->out, "The file; without it report.html in the first folder")
      ->type_name("FILE");
  command->footer(
      "Example: switchyard report runs/quickstart\n"
      "Example: switchyard report runs/moe runs/dense --out compare.html");
  return {command, [flags](const Runtime& runtime) { return run_report(*flags, runtime); }};
}

}  // namespace switchyard
