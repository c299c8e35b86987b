#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "distributed/communicator.h"
#include "metrics/routing_record.h"
#include "moe/routing.h"

namespace switchyard {

/// Which tokens each expert takes: what this rank adds up over a text that is evaluated.
class TokenCensus {
 public:
  /// One batch: tokens_BS (B, S) int64 and the records of the MoE layers that they passed.
  void add(const at::Tensor& tokens_BS, const std::vector<RouterRecord>& records);

  /// Tokens that were routed, over all ranks. Collective.
  int64_t tokens(Communicator& world) const;

  /// On rank 0, per MoE layer and expert: what it takes, before drops, and the `count` tokens
  /// of which it takes most copies, without their text. On the others nothing. The same on
  /// any layout. Collective; the memory on rank 0 is that of one layer.
  std::vector<std::vector<ExpertTokens>> top(int64_t num_experts, int64_t count,
                                             Communicator& world) const;

 private:
  using Counts = std::unordered_map<int64_t, int64_t>;  // token * E + expert: copies

  int64_t tokens_ = 0;
  std::vector<Counts> copies_L_;
};

}  // namespace switchyard
