#include "bench/bench_step.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "base/error.h"
#include "bench/bench_gemm.h"
#include "bench/phase_clock.h"
#include "bench/random_tokens.h"
#include "metrics/memory.h"
#include "model/step_volumes.h"
#include "ops/region.h"

namespace switchyard {
namespace {

using at::Tensor;
using nlohmann::json;

double rounded(double x, double digits) {
  const double factor = std::pow(10.0, digits);
  return std::round(x * factor) / factor;
}

/// The allocator that stands in for the system's, as far as LD_PRELOAD tells.
std::string allocator_name() {
  const char* preloaded = std::getenv("LD_PRELOAD");
  const std::string libraries = preloaded == nullptr ? "" : preloaded;
  for (const char* name : {"tcmalloc", "jemalloc", "mimalloc"}) {
    if (libraries.find(name) != std::string::npos) return name;
  }
  return "glibc";
}

/// Of all ranks, in rank order. Collective.
std::vector<int64_t> gathered(Communicator& world, int64_t mine) {
  const Tensor input = at::full({1}, mine, at::kLong);
  Tensor all = at::empty({world.size()}, at::kLong);
  world.all_gather(input, all, "numbers of the ranks");
  return {all.data_ptr<int64_t>(), all.data_ptr<int64_t>() + all.numel()};
}

int64_t total(Communicator& world, int64_t mine) {
  Tensor sum = at::full({1}, mine, at::kLong);
  world.all_reduce(sum, ReduceOp::kSum, "numbers of the ranks");
  return sum.item<int64_t>();
}

/// A run whose steps are taken one after another on the pool of random tokens.
class BenchRun {
 public:
  BenchRun(const Runtime& runtime, const RunConfig& config)
      : session_(runtime, config), tokens_(session_) {
    if (session_.decoder().wants_token_counts())
      session_.decoder().use_token_counts(tokens_.counts_V());
  }

  Session& session() { return session_; }
  Communicator& world() { return *session_.mesh().world; }

  StepReport step() {
    session_.record().set_step(steps_ + 1);
    std::vector<MicroBatch> batches;
    {
      const Region part("data");
      batches = tokens_.step(steps_);
    }
    steps_ += 1;
    return train_step(session_, batches);
  }

  /// Bytes that all ranks send in one step's all-to-alls: counted, and by the routing.
  std::pair<int64_t, int64_t> exchanged_bytes() {
    RoutingTrace trace;
    const StepReport report = compute_gradients(session_, tokens_.step(steps_), &trace);
    const Communicator& expert = *session_.mesh().expert;
    const int64_t per_rank = session_.config().moe.num_experts / expert.size();
    int64_t leaving = 0;
    for (const RoutingTrace::Entry& entry : trace.entries) {
      const Tensor owner_TK = at::floor_divide(entry.experts_TK, per_rank);
      leaving += (entry.kept_TK & (owner_TK != expert.rank())).sum().item<int64_t>();
    }
    const int64_t expected =
        exchange_volumes(session_.config(), compute_dtype(session_.config().train), leaving)
            .exchange();
    return {total(world(), report.exchanged_bytes), total(world(), expected)};
  }

 private:
  Session session_;
  RandomTokens tokens_;
  int64_t steps_ = 0;
};

/// Shares of the step by part over a few steps.
json phase_shares(BenchRun& run) {
  constexpr int kSteps = 4;
  PhaseClock clock;
  for (int i = 0; i < kSteps; ++i) {
    clock.start_step();
    run.step();
  }
  clock.finish();
  double all = 0;
  for (const auto& [part, seconds] : clock.seconds()) all += seconds;
  json shares = json::object();
  for (const auto& [part, seconds] : clock.seconds()) shares[part] = rounded(seconds / all, 5);
  return shares;
}

/// Fullest expert / mean, the mean over MoE layers; 1 without any.
double max_load(const StepCounts& counts) {
  if (!counts.defined()) return 1.0;
  const Tensor load_LE = counts.all_LE / counts.all_LE.mean(/*dim=*/1, /*keepdim=*/true);
  return load_LE.amax(/*dim=*/1).mean().item<double>();
}

/// The rank whose experts get most / mean, the mean over MoE layers; 1 without any.
double max_rank_load(const StepCounts& counts, int64_t expert_ranks) {
  if (!counts.defined()) return 1.0;
  const Tensor rows_LP =
      counts.all_LE.view({counts.all_LE.size(0), expert_ranks, -1}).sum(/*dim=*/2);
  return (rows_LP.amax(/*dim=*/1) / rows_LP.mean(/*dim=*/1)).mean().item<double>();
}

double mean(const std::vector<double>& x) {
  double sum = 0;
  for (const double value : x) sum += value;
  return x.empty() ? 0.0 : sum / static_cast<double>(x.size());
}

}  // namespace

RunConfig balanced_routing(RunConfig config) {
  config.moe.router = RouterConfig{};
  config.moe.router.type = "hash";
  config.moe.router.hash = {"balanced", config.moe.top_k};
  config.moe.balance.clear();
  config.moe.z_loss.coef = 0.0;
  return config;
}

json bench_step(const Runtime& runtime, const RunConfig& config, const StepBench& bench) {
  if (config.model.vocab_size == kAuto) {
    throw ConfigError("bench step reads no data: give model.vocab_size, here auto, a number");
  }
  BenchRun run(runtime, bench.balanced ? balanced_routing(config) : config);
  Session& session = run.session();
  Communicator& world = run.world();
  json row = described("step", world);

  StepReport report;
  double first_loss = std::nan("");
  double comm_ms = 0, exchange_ms = 0, step_ms = 0;
  const auto step = [&] {
    const double exchange_before = session.mesh().expert->milliseconds();
    const Span span(step_ms);
    report = run.step();
    if (std::isnan(first_loss)) first_loss = report.loss;
    comm_ms += report.phases.comm_ms;
    exchange_ms += session.mesh().expert->milliseconds() - exchange_before;
  };
  Rounds rounds = bench.rounds;
  rounds.device = session.device();
  const bool on_host = session.device().is_cpu();
  const Samples times = time_in_turn(world, rounds, {step}).front();
  const std::vector<int64_t> peak_rss = gathered(world, peak_rss_bytes());

  const at::ScalarType dtype = compute_dtype(config.train);
  const auto tokens =
      static_cast<double>(config.train.global_batch_size * config.data.sequence_length);
  const double flops = session.size().flops_per_token * tokens;
  row.update({{"peer", "switchyard"},
              {"variant", std::string("ep") + std::to_string(config.parallel.expert) +
                              (bench.balanced ? "+balanced" : "")},
              {"workload", config.run.name},
              {"precision", dtype == at::kFloat ? "fp32" : "bf16"},
              {"matmul", on_host ? "brgemm" : "gpu"},
              {"malloc", allocator_name()},
              {"steps", times.rounds()},
              {"quiet", times.quiet()},
              {"tokens", tokens},
              {"tok_s", tokens / times.median()},
              {"tok_s_min", tokens / times.max()},
              {"tok_s_max", tokens / times.min()},
              {"step_s", times.median()},
              {"first_s", times.first()},
              {"gflops", flops / times.median() / 1e9},
              {"loss0", rounded(first_loss, 4)},
              {"loss1", rounded(report.loss, 4)},
              {"note", bench.note},
              {"flops_per_token", session.size().flops_per_token},
              {"parameters_total", session.size().total_parameters()},
              {"parameters_active", session.size().active_parameters},
              {"max_load", max_load(report.counts)},
              {"max_rank_load", max_rank_load(report.counts, config.parallel.expert)},
              {"dropped", mean(report.dropped_L)},
              {"peak_rss_bytes", peak_rss},
              {"comm_share", comm_ms / step_ms},
              {"exchange_share", exchange_ms / step_ms}});
  row["phases"] = on_host ? phase_shares(run) : json::object();
  const auto [exchanged, expected] = run.exchanged_bytes();
  const StepVolumes planned =
      planned_volumes(session.config(), dtype, world.size(), RoutingCase::kBalanced);
  row["wire_bytes"] = {{"exchange", exchanged},
                       {"exchange_expected", expected},
                       {"reduction", planned.reduction * world.size()},
                       {"gather", planned.gather * world.size()}};
  const double peak = gemm_peak(
      world, dtype, bench.gemm_size,
      {/*warmup=*/1, std::min<int64_t>(5, rounds.quiet), rounds.seconds / 2, rounds.device});
  row["peak_gflops"] = peak / 1e9;
  row["mfu"] = flops / times.median() / peak;
  row["load_average_after"] = load_average();
  return row;
}

}  // namespace switchyard
