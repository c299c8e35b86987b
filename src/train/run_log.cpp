#include "train/run_log.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstdio>

#include "base/log.h"
#include "metrics/memory.h"

namespace switchyard {
namespace {

/// Columns of what the ranks tell each other at a record: milliseconds, bytes, FLOP/s.
enum TimesColumn {
  kElapsed,
  kData,
  kForward,
  kBackward,
  kComm,
  kOptimizer,
  kCheckpoint,
  kRss,
  kPeakFlops,
  kExchanged
};

/// Histograms in TensorBoard's files, of each layer and of each kind, in a whole run.
constexpr int64_t kMaxHistograms = 200;

std::string layer_key(int64_t layer, const char* key) {
  return "moe." + std::to_string(layer) + "." + key;
}

}  // namespace

void RunLog::open() {
  jsonl_ = std::make_unique<JsonlWriter>(folder_.metrics());
  if (!session_.config().run.tensorboard) return;
  tensorboard_ =
      std::make_unique<TensorBoardWriter>(folder_.tensorboard(), session_.progress().step);
}

void RunLog::cut_after(int64_t step) {
  next_histograms_ = 0;
  if (!jsonl_) return;
  jsonl_.reset();
  truncate_after_step(folder_.metrics(), step);
  jsonl_ = std::make_unique<JsonlWriter>(folder_.metrics());
  if (tensorboard_) tensorboard_->forget_after(step);
}

double RunLog::elapsed_ms() const {
  return std::chrono::duration<double, std::milli>(Clock::now() - window_.start).count();
}

void RunLog::add(const PhaseTimes& times) {
  ++window_.steps;
  window_.times.forward_ms += times.forward_ms;
  window_.times.backward_ms += times.backward_ms;
  window_.times.comm_ms += times.comm_ms;
  window_.times.optimizer_ms += times.optimizer_ms;
  if (!jsonl_) return;
  console_.show({session_.progress().step, session_.config().train.steps,
                 elapsed_ms() / static_cast<double>(window_.steps)});
}

void RunLog::record(const StepReport& report, const RoutingCensus& census) {
  const StepMetrics metrics = metrics_of(report);
  if (jsonl_) {
    console_.print(step_line(metrics, session_.config().train.steps, console_.colour()));
    jsonl_->append(metrics);
    if (tensorboard_) tensorboard_->add_scalars(step_record(metrics), "");
  }
  for (const std::string& warning : health_.look_at(metrics)) log_warning(warning);
  record_histograms(metrics, census);
  restart();
}

void RunLog::record(const std::vector<EvalMetrics>& evaluations) {
  if (!jsonl_) return;
  for (const EvalMetrics& metrics : evaluations) {
    console_.print(eval_line(metrics, session_.config().train.steps, console_.colour()));
    jsonl_->append(metrics);
    if (tensorboard_) {
      tensorboard_->add_scalars(eval_record(metrics), "eval/" + metrics.split + "/");
    }
  }
}

/// Into TensorBoard's files alone; collective, unless they are off.
void RunLog::record_histograms(const StepMetrics& metrics, const RoutingCensus& census) {
  const RunConfig& config = session_.config();
  const bool is_last = metrics.step == config.train.steps;
  if (!config.run.tensorboard || metrics.moe.empty()) return;
  if (metrics.step < next_histograms_ && !is_last) return;
  next_histograms_ = metrics.step + config.train.steps / kMaxHistograms;
  const std::vector<Histogram> logits = census.router_logits(*session_.mesh().world);
  if (!tensorboard_) return;
  for (size_t l = 0; l < metrics.moe.size(); ++l) {
    const MoeLayerMetrics& layer = metrics.moe[l];
    tensorboard_->add_histogram(metrics.step, layer_key(layer.layer, "load"),
                                expert_histogram(layer.copies));
    tensorboard_->add_histogram(metrics.step, layer_key(layer.layer, "router_logits"), logits[l]);
  }
}

StepMetrics RunLog::metrics_of(const StepReport& report) {
  const RunConfig& config = session_.config();
  const Progress& progress = session_.progress();
  Communicator& world = *session_.mesh().world;
  const auto steps = static_cast<double>(window_.steps);
  const PhaseTimes& p = window_.times;
  const at::Tensor mine =
      at::tensor({elapsed_ms(), p.data_ms, p.forward_ms, p.backward_ms, p.comm_ms, p.optimizer_ms,
                  p.checkpoint_ms, static_cast<double>(peak_rss_bytes()), peak_flops_,
                  static_cast<double>(report.exchanged_bytes)},
                 at::kDouble);
  at::Tensor times_WT = at::empty({world.size(), mine.numel()}, at::kDouble);
  world.all_gather(mine, times_WT, "times of the ranks");
  const at::Tensor slowest_T = std::get<0>(times_WT.max(0));
  const double* x = slowest_T.data_ptr<double>();
  const double peak_flops = times_WT.select(1, kPeakFlops).sum().item<double>();

  StepMetrics metrics;
  compare_ranks(times_WT, metrics);
  metrics.exchange_bytes =
      static_cast<int64_t>(times_WT.select(1, kExchanged).sum().item<double>());
  metrics.step = progress.step;
  metrics.tokens = progress.tokens;
  metrics.loss = report.loss;
  metrics.loss_z = report.loss_z;
  metrics.grad_norm_z = report.norm_z;
  metrics.aux_loss = report.aux;
  metrics.z_loss = report.z;
  metrics.grad_norm = report.norms.total;
  metrics.grad_norm_dense = report.norms.dense;
  metrics.grad_norm_expert = report.norms.expert;
  metrics.lr = report.lr;
  metrics.step_ms = x[kElapsed] / steps;
  const auto step_tokens =
      static_cast<double>(config.train.global_batch_size * config.data.sequence_length);
  metrics.tokens_per_second = step_tokens * steps / x[kElapsed] * 1e3;
  metrics.mfu = metrics.tokens_per_second * session_.size().flops_per_token / peak_flops;
  metrics.phases = {x[kData] / steps, x[kForward] / steps,   x[kBackward] / steps,
                    x[kComm] / steps, x[kOptimizer] / steps, x[kCheckpoint] / steps};
  metrics.peak_rss_bytes = static_cast<int64_t>(x[kRss]);
  metrics.skipped_steps = progress.skipped;
  for (size_t l = 0; l < report.dropped_L.size(); ++l) {
    const at::Tensor counts_E = report.counts.all_LE[static_cast<int64_t>(l)].to(at::kLong);
    const std::vector<int64_t> copies(counts_E.data_ptr<int64_t>(),
                                      counts_E.data_ptr<int64_t>() + counts_E.numel());
    MoeLayerMetrics layer = layer_metrics(session_.decoder().moe_layers()[l], copies);
    layer.dropped = report.dropped_L[l];
    layer.entropy = report.entropy_L[l];
    metrics.moe.push_back(layer);
  }
  return metrics;
}

/// Names, each once, a rank whose work outside collectives takes twice as long as most ranks'.
void RunLog::compare_ranks(const at::Tensor& times_WT, StepMetrics& metrics) {
  const int64_t W = times_WT.size(0);
  const at::Tensor work_W = times_WT.select(1, kElapsed) - times_WT.select(1, kComm);
  const double typical = std::get<0>(work_W.sort())[(W - 1) / 2].item<double>();
  const auto steps = static_cast<double>(window_.steps);
  metrics.slowest_rank = work_W.argmax().item<int64_t>();
  metrics.slowest_rank_ms = work_W.max().item<double>() / steps;
  metrics.typical_rank_ms = typical / steps;
  for (int64_t r = 0; r < W; ++r) {
    const double work = work_W[r].item<double>(), elapsed = times_WT[r][kElapsed].item<double>();
    const bool slow = work > 2 * typical && work - typical > 0.2 * elapsed;
    if (!slow || !slow_ranks_.insert(r).second) continue;
    const auto per_step = [&](double ms) {
      return std::to_string(std::llround(ms / static_cast<double>(window_.steps))) + " ms";
    };
    log_warning("rank " + std::to_string(r) + " is slow: " + per_step(work) +
                " of work per step where most ranks take " + per_step(typical) +
                ", and all wait for it; see what else runs on its host (" +
                record_path(folder_.flight(), static_cast<int>(r)) + ")");
  }
}

}  // namespace switchyard
