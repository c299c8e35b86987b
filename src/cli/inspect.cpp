#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/checksum.h"
#include "base/error.h"
#include "base/file.h"
#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/summary.h"
#include "cli/command.h"
#include "cli/inspect_routing.h"
#include "cli/own_checkpoint.h"
#include "metrics/console.h"

namespace switchyard {
namespace {

using nlohmann::ordered_json;

struct InspectFlags {
  bool tensors = false, routing = false;
  InspectRoutingFlags of_routing = {};  // its checkpoint and json hold without --routing too
};

void check(const InspectFlags& flags, const CLI::App& command) {
  if (flags.routing && flags.tensors)
    throw ConfigError("--tensors: not together with --routing; inspect twice");
  if (flags.routing) return;
  for (const char* name : {"--data", "--split", "--sequence-length", "--batches", "--sample",
                           "--precision", "--domain", "--out"}) {
    if (command.count(name) > 0) throw ConfigError(std::string(name) + ": only with --routing");
  }
}

uint64_t manifest_bytes(const CheckpointReader& reader) {
  return FileReader(reader.path() + "/" + kManifestName).size();
}

ordered_json files_json(const CheckpointReader& reader) {
  const Manifest& manifest = reader.manifest();
  ordered_json files = {{kManifestName, {{"bytes", manifest_bytes(reader)}}}};
  for (const FileRecord& file : manifest.files) {
    files[file.name] = {{"bytes", file.bytes}, {"xxh3", digest_text(file.xxh3)}};
  }
  for (const ShardRecord& shard : manifest.shards) files[shard.name] = shard_json(shard);
  return files;
}

ordered_json kinds_json(const Manifest& manifest) {
  ordered_json kinds = ordered_json::object();
  for (const auto& [name, kind] : summarize(manifest)) {
    kinds[name] = {
        {"tensors", kind.tensors}, {"bytes", kind.bytes}, {"parameters", kind.parameters}};
  }
  return kinds;
}

ordered_json as_json(const CheckpointReader& reader, bool with_tensors) {
  const Manifest& manifest = reader.manifest();
  ordered_json json = {{"checkpoint", reader.path()},
                       {"step", manifest.step},
                       {"cursor", manifest.cursor},
                       {"state", manifest.state},
                       {"layout",
                        {{"world", manifest.world},
                         {"expert", manifest.expert_parallel},
                         {"zero", manifest.zero_stage}}},
                       {"save_id", manifest.save_id},
                       {"config_xxh3", digest_text(manifest.config_xxh3)},
                       {"kinds", kinds_json(manifest)},
                       {"bytes", manifest_bytes(reader) + file_bytes(manifest)},
                       {"files", files_json(reader)}};
  if (!with_tensors) return json;
  ordered_json tensors = ordered_json::array();
  for (const TensorRecord& tensor : manifest.tensors) {
    tensors.push_back(tensor_json(tensor, manifest.shards));
  }
  json["tensors"] = std::move(tensors);
  return json;
}

std::string bytes_line(uint64_t bytes) {
  const auto number = static_cast<int64_t>(bytes);
  return grouped(number) + " bytes (" + bytes_text(number) + ")";
}

std::string tensor_lines(const TensorRecord& tensor, const std::vector<ShardRecord>& shards) {
  std::string text = tensor.name + "  " + tensor.dtype + " " + nlohmann::json(tensor.shape).dump() +
                     " " + tensor.kind + "\n";
  for (const Slice& slice : tensor.slices) {
    text += "  [" + std::to_string(slice.begin) + ", " + std::to_string(slice.end) + ") " +
            shards[slice.shard].name + " at " + std::to_string(slice.offset) + ", " +
            std::to_string(slice.bytes) + " bytes, xxh3 " + digest_text(slice.xxh3) + "\n";
  }
  return text;
}

std::string as_text(const CheckpointReader& reader, bool with_tensors) {
  const Manifest& manifest = reader.manifest();
  std::string text = reader.path() + "\n";
  text += "step       " + std::to_string(manifest.step) + ", cursor " +
          std::to_string(manifest.cursor) + " samples\n";
  for (const auto& [key, value] : manifest.state.items()) {
    text += "state      " + key + " " + value.dump() + "\n";
  }
  text += "layout     " + std::to_string(manifest.world) + " ranks, expert parallel " +
          std::to_string(manifest.expert_parallel) + ", ZeRO-" +
          std::to_string(manifest.zero_stage) + "\n";
  text += "save       " + manifest.save_id + "\n";
  text += "config     xxh3 " + digest_text(manifest.config_xxh3) + "\n";
  for (const auto& [name, kind] : summarize(manifest)) {
    text += "kind       " + name + ": " + grouped(kind.parameters) + " parameters; " +
            std::to_string(kind.tensors) + " tensors of " + bytes_line(kind.bytes) + "\n";
  }
  const ordered_json files = files_json(reader);
  for (const auto& [name, file] : files.items()) {
    text += "file       " + name + ", " + bytes_line(file["bytes"]) + "\n";
  }
  text += "all        " + bytes_line(manifest_bytes(reader) + file_bytes(manifest)) + "\n";
  if (!with_tensors) return text;
  for (const TensorRecord& tensor : manifest.tensors) text += tensor_lines(tensor, manifest.shards);
  return text;
}

ExitCode run_inspect(const InspectFlags& flags, const Runtime& runtime) {
  if (flags.routing) return inspect_routing(flags.of_routing, runtime);
  if (runtime.rank() != 0) return kExitOk;
  const CheckpointReader reader(own_checkpoint(flags.of_routing.checkpoint));
  print_once(runtime, flags.of_routing.json ? as_json(reader, flags.tensors).dump() + "\n"
                                            : as_text(reader, flags.tensors));
  return kExitOk;
}

}  // namespace

Command add_inspect(CLI::App& app) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* command = app.add_subcommand(
      "inspect",
      "What a checkpoint holds: step, state, layout at save, parameters, files; or how its "
      "routers and experts work");
  InspectRoutingFlags& routing = flags->of_routing;
  command
      ->add_option("checkpoint", routing.checkpoint,
                   "A step-... folder or a run folder; with --routing a Hugging Face folder too")
      ->type_name("CHECKPOINT")
      ->required();
  command->add_flag("--tensors", flags->tensors,
                    "Every tensor with shape, dtype, kind and slices too");
  command->add_flag("--json", routing.json, "One JSON object on stdout");
  command->add_flag(
      "--routing", flags->routing,
      "Per MoE layer on a split: load, MaxVio, entropy, drops, dead experts, similarity "
      "of routers and experts, correlation of scores and norms. Runs under mpirun too");
  command->add_option("--data", routing.data, "With --routing: folder that `prepare` made")
      ->type_name("FOLDER");
  command->add_option("--split", routing.split, "With --routing: which part of the data")
      ->type_name("val|train")
      ->capture_default_str();
  command
      ->add_option("--sequence-length", routing.sequence_length,
                   "With --routing: tokens per sequence")
      ->type_name("TOKENS")
      ->default_str("the run's data.sequence_length");
  command
      ->add_option("--batches", routing.batches,
                   "With --routing: global batches to read, from the split's start")
      ->type_name("BATCHES")
      ->default_str("the whole split");
  command
      ->add_option("--domain", routing.domain,
                   "With --routing: which domain the text is of, where the router chooses by it")
      ->type_name("NAME");
  command
      ->add_option("--sample", routing.sampled_tokens,
                   "With --routing: tokens that every expert is run on")
      ->type_name("TOKENS")
      ->capture_default_str();
  command
      ->add_option("--precision", routing.precision,
                   "With --routing: arithmetic of the matrix products")
      ->type_name("fp32|bf16|auto")
      ->capture_default_str();
  command->add_option("--out", routing.out, "With --routing: file for the JSON")
      ->type_name("FILE")
      ->default_str("routing-step-N.json in the run's folder");
  command->footer(
      "Example: switchyard inspect runs/quickstart --tensors\n"
      "Example: mpirun -n 2 switchyard inspect runs/quickstart --routing --data data/quickstart");
  return {command, [flags, command](const Runtime& runtime) {
            check(*flags, *command);
            return run_inspect(*flags, runtime);
          }};
}

}  // namespace switchyard
