// Routers and their capacity on given hidden states, for the parity tests.
//
//   router_probe FOLDER...
//
// Each FOLDER holds config.yaml and in.safetensors and receives out.safetensors:
//
// in:  `x` (T, D) float32, `gate` (E, D) float32, `sequences` (1) int64: how many
//      equal sequences (routing groups) the tokens are.
// out: `logits`, `experts` (T, K), `weights` (T, K), `kept` (T, K) int64.
#include <ATen/ATen.h>

#include <cstdio>

#include "config/load_config.h"
#include "moe/capacity.h"
#include "moe/router.h"
#include "parity/tensor_files.h"

namespace switchyard {
namespace {

using at::Tensor;

void run(const std::string& folder) {
  const MoeConfig moe = load_config(folder + "/config.yaml", {}, /*world_size=*/1).moe;
  const SafetensorsReader in(folder + "/in.safetensors");
  const Tensor x_TD = read_tensor(in, "x");
  const int64_t sequences = read_tensor(in, "sequences").item<int64_t>(), T = x_TD.size(0);
  TokenContext context;
  context.tokens_per_sequence = context.tokens_per_group = T / sequences;
  context.order_B = at::arange(sequences, at::kLong);
  Routing routing =
      make_router(moe, /*layer=*/0)->route(x_TD, {read_tensor(in, "gate"), {}}, context);
  if (moe.capacity.factor) {
    const int64_t slots =
        expert_capacity(moe.capacity, *moe.capacity.factor, context.tokens_per_group,
                        moe.num_experts, routing.experts_TK.size(1));
    const Priority priority =
        moe.router.type == "gshard" ? Priority::kChoice : parse_priority(moe.capacity.priority);
    drop_over_capacity(routing.experts_TK, routing.weights_TK, moe.num_experts, slots, priority, 0,
                       context, routing.kept_TK);
  }
  write_tensors(folder + "/out.safetensors", {{"logits", routing.logits_TE},
                                              {"experts", routing.experts_TK},
                                              {"weights", kept_weights(routing).contiguous()},
                                              {"kept", routing.kept_TK.to(at::kLong)}});
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
