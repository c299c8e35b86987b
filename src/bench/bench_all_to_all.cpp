#include "bench/bench_all_to_all.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "distributed/raw_all_to_all.h"

namespace switchyard {
namespace {

constexpr int64_t kRow = 256;  // floats: 1 KiB

nlohmann::json compare(Communicator& world, int64_t bytes, const Rounds& rounds) {
  const int64_t rows = bytes / (kRow * static_cast<int64_t>(sizeof(float)));
  const std::vector<int64_t> counts(world.size(), rows);
  const at::Tensor input = at::ones({rows * world.size(), kRow});
  at::Tensor output = at::zeros_like(input);
  const auto ours = [&] { world.all_to_all(input, counts, counts, "all-to-all, measured"); };
  const auto raw = [&] { raw_all_to_all(input, output); };
  const int64_t calls = std::max(repeats(world, ours), repeats(world, raw));
  const auto many = [calls](const auto& call) {
    return [calls, &call] {
      for (int64_t i = 0; i < calls; ++i) call();
    };
  };
  const std::vector<Samples> samples = time_in_turn(world, rounds, {many(ours), many(raw)});
  nlohmann::json row = {{"bytes", bytes}, {"calls_per_round", calls}};
  put_times(row, "raw", samples[1], calls);
  put_times(row, "ours", samples[0], calls);
  const double sent = static_cast<double>(bytes) * (world.size() - 1);
  row["ratio"] = samples[1].median() / samples[0].median();
  row["gb_per_s"] = sent / row["ours_s"].get<double>() / 1e9;
  row["raw_gb_per_s"] = sent / row["raw_s"].get<double>() / 1e9;
  return row;
}

}  // namespace

nlohmann::json bench_all_to_all(Communicator& world, int64_t most_bytes, const Rounds& rounds) {
  if (world.size() == 1) {
    throw ConfigError("bench all-to-all compares with MPI: start it with mpirun -n 2 or more");
  }
  nlohmann::json result = described("all-to-all", world);
  result["results"] = nlohmann::json::array();
  for (int64_t bytes = 1024; bytes <= most_bytes; bytes *= 4) {
    result["results"].push_back(compare(world, bytes, rounds));
  }
  return result;
}

}  // namespace switchyard
