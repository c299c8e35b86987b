// Hugging Face folders as the parity tests see them: opens each, loads it and writes
// what a forward and backward pass computes.
//
//   hf_probe [FOLDER TOKENS.safetensors OUT.safetensors]...
//
// TOKENS: `tokens` (B, S + 1) int64.
// OUT:    `logits` (B * S, V), `loss`, and for every parameter `gradient.NAME` of the
//         loss, under its name on the disk.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cstdio>
#include <string>
#include <vector>

#include "base/error.h"
#include "config/load_config.h"
#include "distributed/runtime.h"
#include "hf/hf_folder.h"
#include "parity/tensor_files.h"
#include "train/snapshot.h"
#include "train/train_step.h"

namespace switchyard {
namespace {

using at::Tensor;

RunConfig run_config(const HfModel& model, int64_t sequences, int64_t length) {
  RunConfig config;
  config.model = model.model;
  config.moe = model.moe;
  config.moe.balance.clear();  // gradients of the language model's loss alone
  config.data.sequence_length = length;
  config.train.global_batch_size = config.train.micro_batch_size = sequences;
  config.train.precision = "fp32";
  config.data.path = {{.path = "unused", .name = ""}};
  for (const std::string& error : validate(config, /*world_size=*/1)) {
    TORCH_CHECK(false, "an imported config must be valid: ", error);
  }
  return config;
}

MicroBatch batch_of(const Tensor& tokens_BS1, const RunConfig& config) {
  SampleBatch samples;
  samples.count = tokens_BS1.size(0);
  samples.length = tokens_BS1.size(1) - 1;
  samples.tokens.assign(tokens_BS1.data_ptr<int64_t>(),
                        tokens_BS1.data_ptr<int64_t>() + tokens_BS1.numel());
  for (int64_t i = 0; i < samples.count; ++i) samples.order.push_back(i);
  return make_micro_batch(samples, config, /*end_of_text=*/0);
}

void probe(const Runtime& runtime, const std::string& path, const std::string& in,
           const std::string& out) {
  HfFolder folder(path);
  const Tensor tokens_BS1 = read_tensor(SafetensorsReader(in), "tokens");
  Session session(runtime, run_config(folder.model(), tokens_BS1.size(0), tokens_BS1.size(1) - 1));
  load_tensors(session, folder, Restore::kWeights);
  const MicroBatch batch = batch_of(tokens_BS1, session.config());
  const StepReport report = compute_gradients(session, {batch});
  std::vector<std::pair<std::string, Tensor>> results = {
      {"loss", at::full({1}, report.loss, at::kFloat)}};
  for (const PlacedPart& placed : session.store().parts()) {
    const auto name = hf_name(folder.model().family, placed.part.name);
    results.emplace_back("gradient." + name.value(),
                         session.store().gradient_of(placed).contiguous());
  }
  const c10::NoGradGuard no_grad;
  const DecoderOutput output = session.decoder().forward(batch.input);
  results.emplace_back("logits", session.decoder().logits(output.hidden_TD));
  write_tensors(out, results);
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  try {
    const switchyard::Runtime runtime(argc, argv);
    for (int i = 1; i + 2 < argc; i += 3) {
      switchyard::probe(runtime, argv[i], argv[i + 1], argv[i + 2]);
    }
    return 0;
  } catch (const switchyard::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return error.exit_code;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "hf_probe: %s\n", error.what());
    return 70;
  }
}
