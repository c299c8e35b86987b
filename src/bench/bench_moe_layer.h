#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "bench/rounds.h"
#include "config/run_config.h"
#include "distributed/mesh.h"

namespace switchyard {

/// One MoE layer on `tokens` tokens of each rank.
struct LayerCase {
  int64_t hidden = 512, width = 1024;  // of the model, of an expert
  int64_t experts = 8, top_k = 2;
  int64_t tokens = 4096;
  bool padding = true;  // compare it with padded layers too, which takes nine times as long
};

/// Hidden 512, expert width 1024, top-2 at 4,096 tokens with 8 to 128 experts, and fewer rows
/// per expert, 8 and 64 experts beside padded layers; or the layer of `config` at one of its
/// micro-batches.
std::vector<LayerCase> layer_cases(const std::optional<RunConfig>& config);

/// Who is told each entry of bench_moe_layer's lists when it is measured.
struct LayerListener {
  std::function<void(const nlohmann::json&)> result, padding;
};

/// Forward and backward of the layer (router, its losses, exchange and all) against the dense
/// feed-forward network of width top_k * width on the same tokens, in turn, float32 and bfloat16.
/// `ratio` is the layer's time over the dense one's; FLOPs of both are counted. On rounds.device,
/// whose tensors the mesh takes; padding is compared on processors alone.
///
/// {"bench": "moe-layer", "results": [...], "padding": [...]}. `padding` compares, for the same
/// routing and on one rank's tokens, the experts with what permutes into and out of them:
///
///   dropless         every expert its own rows
///   padded           every expert's rows filled up to the fullest one's, in one at::bmm
///   capacity_C       room for C times the mean, tokens over it dropped, in one at::bmm
///
/// and padded_grouped, capacity_C_grouped: the same padded rows through the product that
/// dropless takes. `over_dropless` is time over dropless time; `dropped` the share of choices.
///
/// `tell` gets all of `results` first, and is called on every rank. Collective over the mesh, with
/// the experts sharded over its expert group.
nlohmann::json bench_moe_layer(const Mesh& mesh, const std::vector<LayerCase>& cases,
                               const Rounds& rounds, const LayerListener& tell);

}  // namespace switchyard
