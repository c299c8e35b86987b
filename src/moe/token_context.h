#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace switchyard {

enum class Mode { kTrain, kEval };

/// What a layer may know of its tokens besides their hidden states. B sequences
/// of S tokens each lie one after another: token t is position t % S of
/// sequence t / S. Tensors are on the layer's device, but `order_B`, the key of draws, is on the
/// host.
struct TokenContext {
  Mode mode = Mode::kTrain;
  int64_t tokens_per_sequence = 0;  // S
  int64_t tokens_per_group = 0;     // of a routing group: group_sequences * S; divides T
  uint64_t seed = 0;                // of the run: the key of all draws
  c10::Device device = at::kCPU;    // of the layer's tensors
  at::Tensor order_B;               // (B) int64: index of each sequence in the run's sample order
  at::Tensor tokens_T;              // (T) int64 token ids
  at::Tensor valid_T;               // (T) bool, or undefined: all are. Padding is not routed
  at::Tensor previous_T;            // (T) int64: the token before each in its sequence; -1: none
  int64_t first_position = 0;       // of every sequence: not 0 when earlier ones are cached
  at::Tensor domains_T;             // (T) int64: source of each token's sequence, or undefined
  at::Tensor memory_TP;             // (T, P): what the MoE layer before handed on, or undefined
};

}  // namespace switchyard
