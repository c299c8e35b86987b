#include "cli/load_model.h"

#include <CLI/CLI.hpp>
#include <numeric>

#include "base/error.h"
#include "config/causality.h"
#include "data/dataset_meta.h"
#include "distributed/device.h"
#include "train/snapshot.h"

namespace switchyard {

namespace {

void refuse_cross_token(const ModelSource& source) {
  const std::vector<CrossTokenSetting> settings = cross_token_evaluation(source.config.moe);
  if (settings.empty()) return;
  throw ConfigError(source.path() + ": " + settings.front().text +
                    ": its loss is too good to be true, its text worse, and requests that share "
                    "a batch see each other; --allow-noncausal runs it all the same");
}

}  // namespace

void add_compute_options(CLI::App& command, std::string& device, std::string& precision) {
  command
      .add_option("--device", device,
                  "What computes: processors, or one GPU per rank in a build with CUDA")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->type_name("cpu|cuda")
      ->capture_default_str();
  command.add_option("--precision", precision, "Arithmetic of the matrix products")
      ->type_name("fp32|bf16|auto")
      ->capture_default_str();
}

LoadedModel load_model(const Runtime& runtime, const std::string& checkpoint,
                       const std::string& device, const std::string& precision,
                       CrossToken cross_token) {
  if (precision != "fp32" && precision != "bf16" && precision != "auto")
    throw ConfigError("--precision: `" + precision + "` is not one of fp32, bf16, auto");
  select_device(device, runtime.local_rank());  // before the checkpoint is read
  LoadedModel model{open_model(checkpoint), nullptr};
  if (cross_token == CrossToken::kRefuse) refuse_cross_token(model.source);
  RunConfig config = model.source.config;
  config.train.precision = precision;
  config.train.device = device;
  config.train.threads = kAuto;
  config.parallel.expert =
      std::gcd(static_cast<int64_t>(runtime.world_size()), config.moe.num_experts);
  model.session = std::make_unique<Session>(runtime, config, Purpose::kInference);
  load_tensors(*model.session, *model.source.tensors, Restore::kWeights);
  model.session->progress().step = model.source.step;
  return model;
}

void check_tokenizer(const ModelSource& source, const std::string& data) {
  if (!source.meta || same_tokenizer(*source.meta, read_dataset_meta(data))) return;
  throw ConfigError(
      "--data: " + data +
      " was prepared with another tokenizer than the model's; prepare it with that of " +
      source.path());
}

}  // namespace switchyard
