#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace switchyard {

/// One start of a run.
struct RunStart {
  std::string time;  // UTC, 2026-11-27T23:14:13Z
  int64_t step = 0;  // that it goes on from
  int64_t world = 1;
  std::vector<std::string> hosts = {};  // of each rank
  std::string resumed_from = {};        // the checkpoint; empty: none
};

struct RunData {
  std::string name, path;
  int64_t tokens = 0;  // of the train split
};

/// runs/NAME/run.json: what runs, where and since when; what its report says besides the
/// records.
struct RunRecord {
  std::string name;
  std::vector<RunStart> started;
  int64_t steps = 0;
  int64_t parameters_total = 0, parameters_active = 0;
  double flops_per_token = 0;  // of a training step
  double peak_flops = 0;       // of matrix products per second, over ranks; NaN: not known
  int64_t ranks = 1, expert = 1, zero = 1;
  std::string precision;                                                // fp32 or bf16
  std::vector<std::pair<std::string, int64_t>> planned_bytes_per_rank;  // by part, `total` last
  std::vector<int64_t> moe_layers;                                      // counted from 0
  int64_t num_experts = 0, top_k = 0;                                   // 0 without MoE layers
  std::vector<RunData> data;
};

/// Replaces the file at `path` by `record`, whose starts follow those that the
/// file tells of; one that is no run.json tells of none. Throws DataError if it cannot
/// be replaced. For one writer: rank 0.
void write_run_record(const std::string& path, const RunRecord& record);

/// Now in UTC: 2026-11-27T23:14:13Z.
std::string utc_now();

}  // namespace switchyard
