#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/rounds.h"
#include "config/run_config.h"

namespace switchyard {

/// y (m, n) = x (m, k) w (n, k)^T, as a linear layer has it.
struct GemmShape {
  std::string name;
  int64_t m, k, n;
};

/// One library's rate at one shape, in FLOP/s of all ranks together, which compute at the same
/// time.
struct GemmRate {
  GemmShape shape;
  at::ScalarType dtype;
  std::string library;                 // gpu, mkl, onednn, ...: see bench_gemm.cpp
  double flops = 0, min = 0, max = 0;  // of the median, the slowest and the fastest round
  int64_t rounds = 0, quiet = 0;
};

/// Every way to a product that LibTorch has on rounds.device, in turn. Collective over `world`.
std::vector<GemmRate> time_gemm(Communicator& world, const GemmShape& shape, at::ScalarType dtype,
                                const Rounds& rounds);

/// The peak that MFU is a share of: the fastest library's median rate at size^3, in FLOP/s of
/// all ranks. Collective over `world`.
double gemm_peak(Communicator& world, at::ScalarType dtype, int64_t size, const Rounds& rounds);

/// Square products, then those of the reference workloads, or of `config` on each rank.
std::vector<GemmShape> gemm_shapes(int64_t size, const std::optional<RunConfig>& config,
                                   int world_size);

/// {"bench": "gemm", "peak_gflops": {"fp32", "bf16"}, "results": [one per rate]}, with rates in
/// GFLOP/s. Collective over `world`.
nlohmann::json bench_gemm(Communicator& world, const std::vector<GemmShape>& shapes,
                          const Rounds& rounds);

}  // namespace switchyard
