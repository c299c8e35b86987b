#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "config/run_config.h"

namespace switchyard {

/// Rows of one MoE layer and one micro-batch, on one rank.
struct RoutedRows {
  int64_t sent = 0;     // token copies that this rank's tokens make, after capacity
  int64_t arrived = 0;  // copies that this rank's experts get
};

/// Where the routing sends tokens: evenly to all experts, or as many as can be to this
/// rank: every token of the expert group takes as many of its choices there as the rank
/// has experts, as far as their capacity lets them in.
enum class RoutingCase { kBalanced, kWorst };

/// Of a config whose autos are resolved.
RoutedRows routed_rows(const RunConfig& config, RoutingCase routing);

/// Bytes of tensors that live on one rank while one micro-batch goes forward and backward,
/// parameters, gradient buffers and optimizer left out.
struct ActivationBytes {
  int64_t kept = 0;      // what forward leaves for backward
  int64_t exchange = 0;  // of `kept`: rows of tokens at the experts, and their order
  int64_t peak = 0;      // the most alive at one moment
  std::string peak_at;   // when: "backward of the loss"
};

/// Counted tensor by tensor in the order of Decoder::forward, of the loss and of autograd's
/// backward, as docs/plan.md lists them. Exact for router `topk` without options but for
/// objects of a few bytes per token and expert; other routers are counted as that one.
/// `world_size` is a multiple of parallel.expert. Local, builds nothing.
ActivationBytes planned_activations(const RunConfig& config, at::ScalarType compute,
                                    int64_t world_size, RoutingCase routing);

}  // namespace switchyard
