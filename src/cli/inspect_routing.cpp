#include "cli/inspect_routing.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/log.h"
#include "checkpoint/step_folder.h"
#include "cli/command.h"
#include "cli/load_model.h"
#include "hf/hf_folder.h"
#include "train/domain.h"
#include "train/routing_diagnostics.h"

namespace switchyard {
namespace {

void check(const InspectRoutingFlags& flags) {
  if (flags.data.empty()) throw ConfigError("--data is required with --routing");
  if (flags.sequence_length < 0) throw ConfigError("--sequence-length: must be at least 1");
  if (flags.batches < 0) throw ConfigError("--batches: must be 0 (the whole split) or more");
  if (flags.sampled_tokens < 1) throw ConfigError("--sample: must be at least 1");
}

/// Before an hour of computing, not after it.
void check_can_be_made(const std::string& file) {
  if (!file.empty() && !is_folder(folder_of(file)))
    throw DataError(file + ": cannot be written: no folder " + folder_of(file));
}

RoutingSample sample_of(const InspectRoutingFlags& flags, const RunConfig& config) {
  RoutingSample sample;
  sample.data_dir = flags.data;
  sample.split = flags.split;
  sample.sequence_length =
      flags.sequence_length > 0 ? flags.sequence_length : config.data.sequence_length;
  sample.max_sequences = flags.batches * config.train.global_batch_size;
  if (!flags.domain.empty()) sample.domain = parse_domain(flags.domain, config);
  sample.sampled_tokens = flags.sampled_tokens;
  return sample;
}

void save(const Runtime& runtime, const std::string& file, const std::string& text) {
  if (file.empty() || runtime.rank() != 0) return;
  write_file_atomically(file, text);
  log_info("saved in " + file);
}

}  // namespace

std::string routing_file(const std::string& checkpoint_path, int64_t step) {
  if (is_hf_folder(checkpoint_path)) return "";
  namespace fs = std::filesystem;
  fs::path folder = fs::absolute(checkpoint_path).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();
  folder = folder.parent_path();
  if (folder.filename() == "checkpoints") folder = folder.parent_path();
  return (folder / ("routing-" + step_folder_name(step) + ".json")).string();
}

ExitCode inspect_routing(const InspectRoutingFlags& flags, const Runtime& runtime) {
  check(flags);
  check_can_be_made(flags.out);
  const LoadedModel model =
      load_model(runtime, flags.checkpoint, "cpu", flags.precision, CrossToken::kAllow);
  if (model.session->decoder().num_moe_layers() == 0)
    throw ConfigError("--routing: " + model.source.path() + " has no MoE layers");
  check_tokenizer(model.source, flags.data);
  RoutingSummary summary =
      diagnose_routing(*model.session, sample_of(flags, model.session->config()));
  summary.checkpoint = model.source.path();
  const std::string json = routing_json(summary).dump() + "\n";
  print_once(runtime, flags.json ? json : routing_text(summary));
  save(runtime, flags.out.empty() ? routing_file(model.source.path(), summary.step) : flags.out,
       json);
  return kExitOk;
}

}  // namespace switchyard
