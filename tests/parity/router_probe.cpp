// Routers and their capacity on given hidden states, for the parity tests.
//
//   router_probe FOLDER...
//
// Each FOLDER holds config.yaml and in.safetensors and receives out.safetensors:
//
// in:  `x` (T, D) float32, the router's weights and (else as a run starts) its state by
//      name (`gate.weight` (E, D), ...), `sequences` (1) int64: how many equal sequences
//      (routing groups) the tokens are; optionally `memory` (T, P) and `token_ids` (T).
// out: `logits`, `experts` (T, K), `weights` (T, K), `kept` (T, K) int64, and of routers that
//      have them `memory` (T, P) and `regularizer` (T).
#include <ATen/ATen.h>

#include <cstdio>

#include "config/load_config.h"
#include "moe/drop_tokens.h"
#include "moe/router.h"
#include "parity/tensor_files.h"

namespace switchyard {
namespace {

using at::Tensor;

RouterTensors read_router(const Router& router, const SafetensorsReader& in) {
  RouterTensors tensors;
  for (const RouterWeight& weight : router.weights()) {
    tensors.weights.push_back(read_tensor(in, weight.name));
  }
  for (const auto& [name, initial] : router.initial_state()) {
    tensors.state.push_back(in.find(name) != nullptr ? read_tensor(in, name) : initial);
  }
  return tensors;
}

void run(const std::string& folder) {
  const RunConfig config = load_config(folder + "/config.yaml", {}, /*world_size=*/1);
  MoeConfig moe = config.moe;
  if (!moe.capacity.eval_factor) moe.capacity.eval_factor = moe.capacity.factor;
  const SafetensorsReader in(folder + "/in.safetensors");
  const Tensor x_TD = read_tensor(in, "x");
  const int64_t sequences = read_tensor(in, "sequences").item<int64_t>(), T = x_TD.size(0);
  TokenContext context;
  context.tokens_per_sequence = context.tokens_per_group = T / sequences;
  context.order_B = at::arange(sequences, at::kLong);
  context.mode = in.find("train") != nullptr ? Mode::kTrain : Mode::kEval;
  context.tokens_T =
      in.find("token_ids") != nullptr ? read_tensor(in, "token_ids") : at::zeros({T}, at::kLong);
  if (in.find("memory") != nullptr) context.memory_TP = read_tensor(in, "memory");
  ModelConfig model = config.model;
  model.hidden_size = x_TD.size(1);
  const auto router = make_router(moe.router, router_place(model, moe, /*layer=*/0));
  Routing routing = router->route(x_TD, read_router(*router, in), context);
  drop_tokens(routing, moe, /*layer=*/0, context);
  NamedState out = {{"logits", routing.logits_TE},
                    {"experts", routing.experts_TK},
                    {"weights", kept_weights(routing).contiguous()},
                    {"kept", routing.kept_TK.to(at::kLong)}};
  if (routing.memory_TP.defined()) out.emplace_back("memory", routing.memory_TP);
  if (routing.regularizer_T.defined()) out.emplace_back("regularizer", routing.regularizer_T);
  write_tensors(folder + "/out.safetensors", out);
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  try {
    for (int i = 1; i < argc; ++i) switchyard::run(argv[i]);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "router_probe: %s\n", error.what());
    return 70;
  }
}
