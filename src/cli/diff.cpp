#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "checkpoint/diff_checkpoints.h"
#include "cli/command.h"
#include "cli/own_checkpoint.h"

namespace switchyard {
namespace {

using nlohmann::ordered_json;

constexpr size_t kShown = 20;  // tensors, in the text

struct DiffFlags {
  std::string first, second;
  bool json = false;
};

/// All that is compared.
struct Report {
  std::string first, second;  // step folders
  ManifestDifference manifests;
  std::vector<TensorDifference> tensors;

  bool equal() const { return manifests.empty() && tensors.empty(); }
};

/// The differences that all ranks have found, worst first. Collective.
std::vector<TensorDifference> gather(Communicator& world,
                                     const std::vector<TensorDifference>& mine) {
  ordered_json rows = ordered_json::array();
  for (const TensorDifference& tensor : mine) {
    rows.push_back(
        {tensor.name, tensor.elements, tensor.differing, std::bit_cast<uint64_t>(tensor.largest)});
  }
  std::vector<TensorDifference> all;
  for (const std::string& text : all_gather_text(world, rows.dump(), "differing tensors")) {
    for (const ordered_json& row : ordered_json::parse(text)) {
      all.push_back({row[0], row[1], row[2], std::bit_cast<double>(row[3].get<uint64_t>())});
    }
  }
  sort_worst_first(all);
  return all;
}

ordered_json rows_json(const std::vector<FieldDifference>& fields) {
  ordered_json rows = ordered_json::array();
  for (const FieldDifference& field : fields) {
    rows.push_back({{"name", field.name}, {"first", field.first}, {"second", field.second}});
  }
  return rows;
}

/// What is not finite becomes null, as JSON has no word for it.
ordered_json as_json(const Report& report) {
  ordered_json tensors = ordered_json::array();
  for (const TensorDifference& tensor : report.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"max_difference", tensor.largest},
                       {"differing", tensor.differing},
                       {"elements", tensor.elements}});
  }
  const double worst = report.tensors.empty() ? 0 : report.tensors.front().largest;
  return {{"equal", report.equal()},
          {"first", report.first},
          {"second", report.second},
          {"fields", rows_json(report.manifests.fields)},
          {"only_in_first", report.manifests.only_in_first},
          {"only_in_second", report.manifests.only_in_second},
          {"mismatches", rows_json(report.manifests.declarations)},
          {"max_difference", worst},
          {"tensors", tensors}};
}

std::string field_lines(const std::vector<FieldDifference>& fields) {
  std::string text;
  for (const FieldDifference& field : fields) {
    text += field.name + ": " + field.first.dump() + " and " + field.second.dump() + "\n";
  }
  return text;
}

std::string tensor_lines(const std::vector<TensorDifference>& tensors) {
  std::string text;
  for (size_t i = 0; i < std::min(kShown, tensors.size()); ++i) {
    char line[128];
    std::snprintf(line, sizeof line, "%.3e  %lld of %lld elements  ", tensors[i].largest,
                  static_cast<long long>(tensors[i].differing),
                  static_cast<long long>(tensors[i].elements));
    text += line + tensors[i].name + "\n";
  }
  if (tensors.size() > kShown) {
    text += "... and " + std::to_string(tensors.size() - kShown) + " more\n";
  }
  return text;
}

std::string as_text(const Report& report) {
  if (report.equal()) return "equal\n";
  std::string text = field_lines(report.manifests.fields);
  for (const std::string& name : report.manifests.only_in_first) {
    text += "only in " + report.first + ": " + name + "\n";
  }
  for (const std::string& name : report.manifests.only_in_second) {
    text += "only in " + report.second + ": " + name + "\n";
  }
  text += field_lines(report.manifests.declarations) + tensor_lines(report.tensors);
  return text + std::to_string(report.tensors.size()) + " tensors differ in value\n";
}

ExitCode run_diff(const DiffFlags& flags, const Runtime& runtime) {
  const Mesh mesh = runtime.make_mesh(ParallelConfig{});
  Communicator& world = *mesh.world;
  CheckpointReader first(own_checkpoint(flags.first));
  CheckpointReader second(own_checkpoint(flags.second));
  const std::vector<TensorDifference> mine =
      diff_tensors(first, second, world.rank(), world.size());
  const Report report{first.path(), second.path(),
                      diff_manifests(first.manifest(), second.manifest()), gather(world, mine)};
  print_once(runtime, flags.json ? as_json(report).dump() + "\n" : as_text(report));
  return report.equal() ? kExitOk : kExitDiffer;
}

}  // namespace

Command add_diff(CLI::App& app) {
  auto flags = std::make_shared<DiffFlags>();
  CLI::App* command = app.add_subcommand(
      "diff", "Compare two checkpoints bit by bit, of any layouts; exit code 1 when they differ");
  command->add_option("first", flags->first, "A step-... folder or a run folder (its latest)")
      ->type_name("CHECKPOINT")
      ->required();
  command->add_option("second", flags->second, "The one it is held against")
      ->type_name("CHECKPOINT")
      ->required();
  command->add_flag("--json", flags->json, "One JSON object on stdout");
  command->footer(
      "Ranks share the reading under mpirun.\n"
      "Example: switchyard diff runs/a/checkpoints/step-00000100 runs/b\n"
      "Example: mpirun -n 4 switchyard diff runs/a runs/b --json");
  return {command, [flags](const Runtime& runtime) { return run_diff(*flags, runtime); }};
}

}  // namespace switchyard
