#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace switchyard {

/// Seconds that one thread takes for a unit of each kind of work, which model/step_cost.h
/// counts; 0: free.
struct ThreadCosts {
  double flop = 0;             // of matrix products
  double score = 0;            // of attention: softmax, there and back
  double activation_byte = 0;  // of activations and their gradients, read or written
  double weight_byte = 0;      // of weights packed for products and of gradients added to
  double layer = 0;       // of each decoder layer and micro-batch: what does not depend on sizes
  double peak_flops = 0;  // per second: what MFU is measured against
};

/// Seconds between two ranks.
struct LinkCosts {
  double message = 0, exchange_byte = 0, reduction_byte = 0;
};

/// What work costs on a class of machine: a file that scripts/bench/scale.py fits to measured
/// steps, or that states a machine which nobody has measured.
struct CostModel {
  std::string path, machine, fitted;
  int64_t cores = 1;           // of a host, shared out to its ranks where train.threads is auto
  int64_t ranks_per_host = 1;  // at most; more ranks are on several hosts
  ThreadCosts fp32, bf16;
  double optimizer_byte = 0;  // seconds of one thread, as in ThreadCosts
  LinkCosts host;
  std::optional<LinkCosts> network;  // between ranks of different hosts, each one's own share
};

/// Reads such a file; docs/plan.md lists its keys. Every key but `network` is required; a rate
/// that is null costs nothing. Throws ConfigError with all mistakes, `costs.yaml:7: ...`, and
/// DataError for a file that is missing or unreadable.
CostModel load_cost_model(const std::string& path);

}  // namespace switchyard
