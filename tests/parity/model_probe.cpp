// The model as the parity tests see it: given a config, weights under their
// native names and tokens, writes what a forward and backward pass computes, or
// the losses of a few optimizer steps.
//
//   model_probe CONFIG.yaml IN.safetensors OUT.safetensors [--set key=value]...
//
// IN:  every weight (float32, native names) and `tokens` (B, S + 1) int64, or
//      (steps, B, S + 1) for optimizer steps.
// OUT: `logits` (B * S, V), `router_logits.l`, `experts.l`, `loss`, `aux_loss`,
//      `z_loss`, `gradient.NAME`; or `losses` (steps).
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cstdio>
#include <string>
#include <vector>

#include "config/load_config.h"
#include "distributed/runtime.h"
#include "parity/tensor_files.h"
#include "train/train_step.h"

namespace switchyard {
namespace {

using at::Tensor;

MicroBatch batch_of(const Tensor& tokens_BS1, const RunConfig& config) {
  SampleBatch samples;
  samples.count = tokens_BS1.size(0);
  samples.length = tokens_BS1.size(1) - 1;
  const Tensor tokens = tokens_BS1.contiguous();
  samples.tokens.assign(tokens.data_ptr<int64_t>(), tokens.data_ptr<int64_t>() + tokens.numel());
  for (int64_t i = 0; i < samples.count; ++i) samples.order.push_back(i);
  return make_micro_batch(samples, config, /*end_of_text=*/0);
}

void probe_gradients(Session& session, const Tensor& tokens, const std::string& out) {
  std::vector<std::pair<std::string, Tensor>> results;
  const MicroBatch batch = batch_of(tokens, session.config());
  const StepReport report = compute_gradients(session, {batch});
  {
    const c10::NoGradGuard no_grad;
    const DecoderOutput output = session.decoder().forward(batch.input);
    results.emplace_back("logits", session.decoder().logits(output.hidden_TD));
    for (size_t l = 0; l < output.routers.size(); ++l) {
      results.emplace_back("router_logits." + std::to_string(l), output.routers[l].logits_TE);
      results.emplace_back("experts." + std::to_string(l), output.routers[l].experts_TK);
    }
  }
  results.emplace_back("loss", at::full({1}, report.loss, at::kFloat));
  results.emplace_back("aux_loss", at::full({1}, report.aux, at::kFloat));
  results.emplace_back("z_loss", at::full({1}, report.z, at::kFloat));
  for (const PlacedPart& placed : session.store().parts()) {
    results.emplace_back("gradient." + placed.part.name,
                         session.store().gradient_of(placed).contiguous());
  }
  write_tensors(out, results);
}

void probe_steps(Session& session, const Tensor& tokens_NBS1, const std::string& out) {
  Tensor losses = at::empty({tokens_NBS1.size(0)}, at::kFloat);
  for (int64_t n = 0; n < tokens_NBS1.size(0); ++n) {
    losses[n] = train_step(session, {batch_of(tokens_NBS1[n], session.config())}).loss;
  }
  write_tensors(out, {{"losses", losses}});
}

int run(int argc, char** argv) {
  const Runtime runtime(argc, argv);
  std::vector<std::string> sets;
  for (int i = 4; i + 1 < argc; i += 2) sets.emplace_back(argv[i + 1]);
  const SafetensorsReader in(argv[2]);
  const Tensor tokens = read_tensor(in, "tokens");
  Session session(runtime, load_config(argv[1], sets, /*world_size=*/1));
  for (const PlacedPart& placed : session.store().parts()) {
    session.store().weight_of(placed).copy_(read_tensor(in, placed.part.name));
  }
  session.store().refresh_master();
  if (tokens.dim() == 2) {
    probe_gradients(session, tokens, argv[3]);
  } else {
    probe_steps(session, tokens, argv[3]);
  }
  return 0;
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(
        stderr,
        "usage: model_probe CONFIG.yaml IN.safetensors OUT.safetensors [--set key=value]...\n");
    return 2;
  }
  try {
    return switchyard::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "model_probe: %s\n", error.what());
    return 70;
  }
}
