#include "train/trainer.h"

#include <ATen/ATen.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "base/checksum.h"
#include "base/file.h"
#include "base/log.h"
#include "checkpoint/retention.h"
#include "checkpoint/step_folder.h"
#include "config/load_config.h"
#include "data/dataset_meta.h"
#include "data/token_dataset.h"
#include "data/tokenizer.h"
#include "metrics/console.h"
#include "metrics/jsonl.h"
#include "metrics/memory.h"
#include "ops/gemm_peak.h"
#include "train/evaluator.h"
#include "train/snapshot.h"
#include "train/train_step.h"

namespace switchyard {
namespace {

using Clock = std::chrono::steady_clock;

std::string run_dir_of(const RunConfig& config) { return config.run.dir + "/" + config.run.name; }
std::string checkpoints_dir_of(const RunConfig& config) {
  return run_dir_of(config) + "/checkpoints";
}

std::string precision_name(const TrainConfig& train) {
  return compute_dtype(train) == at::kFloat ? "fp32" : "bf16";
}

/// Millions with one digit, as papers write sizes: "12.3M".
std::string millions(int64_t n) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1fM", static_cast<double>(n) / 1e6);
  return text;
}

std::string model_line(const RunConfig& config) {
  const ModelSize size = model_size(config.model, config.moe, config.data.sequence_length);
  const size_t moe_layers = moe_layer_indices(config.moe, config.model.num_hidden_layers).size();
  std::string line = "model    " + millions(size.total_parameters()) + " parameters, " +
                     millions(size.active_parameters) + " active; " +
                     std::to_string(config.model.num_hidden_layers) + " layers of width " +
                     std::to_string(config.model.hidden_size) + ", vocabulary " +
                     std::to_string(config.model.vocab_size);
  if (moe_layers == 0) return line + ", dense";
  return line + ", " + std::to_string(moe_layers) + " with " +
         std::to_string(config.moe.num_experts) + " experts, top-" +
         std::to_string(config.moe.top_k) + " " + config.moe.router.type;
}

std::string layout_line(const RunConfig& config, int world_size) {
  const int64_t EP = config.parallel.expert;
  return "layout   " + std::to_string(world_size) + " ranks = EP " + std::to_string(EP) +
         " x EDP " + std::to_string(world_size / EP) + ", ZeRO-" +
         std::to_string(config.zero.stage) + ", " + precision_name(config.train) + "; batch " +
         std::to_string(config.train.global_batch_size) + " x " +
         std::to_string(config.data.sequence_length) + " tokens, micro-batch " +
         std::to_string(config.train.micro_batch_size);
}

std::string memory_line(const ParameterBytes& bytes) {
  return "memory   per rank: weights " + bytes_text(bytes.weights) + ", gradients " +
         bytes_text(bytes.gradients) + ", optimizer " + bytes_text(bytes.optimizer);
}

/// What a rank holds, w (dense + expert / EP) + 4 (dense + expert / EP) + k (dense +
/// expert) / W bytes with w, k = 2, 12 in bfloat16 and 4, 8 in float32; no padding.
ParameterBytes planned_bytes(const RunConfig& config, int world_size) {
  const ModelSize size = model_size(config.model, config.moe, config.data.sequence_length);
  const bool fp32 = compute_dtype(config.train) == at::kFloat;
  const int64_t w = fp32 ? 4 : 2, k = fp32 ? 8 : 12;
  const int64_t local = size.dense_parameters + size.expert_parameters / config.parallel.expert;
  const int64_t state =
      config.zero.stage == 0 ? local : (size.total_parameters() + world_size - 1) / world_size;
  return {w * local, 4 * local, k * state};
}

/// What a checkpoint needs of the data folder to turn text into tokens: meta.json
/// and the tokenizer's files, under their own names.
std::vector<std::pair<std::string, std::string>> tokenizer_files(const DataConfig& data) {
  const std::string& dir = data.path.front().path;
  std::vector<std::pair<std::string, std::string>> files = {
      {"meta.json", read_file(dir + "/meta.json")}};
  for (const std::string& name : dataset_tokenizer_files(dir, read_dataset_meta(dir))) {
    files.emplace_back(name, read_file(dir + "/" + name));
  }
  return files;
}

/// Time and phases since the last record, over which a record averages.
struct Window {
  Clock::time_point start = Clock::now();
  int64_t steps = 0;
  PhaseTimes phases;

  void add(const PhaseTimes& p) {
    ++steps;
    phases.forward_ms += p.forward_ms;
    phases.backward_ms += p.backward_ms;
    phases.comm_ms += p.comm_ms;
    phases.optimizer_ms += p.optimizer_ms;
  }
};

/// The loop of one run on this rank.
class Trainer {
 public:
  Trainer(const Runtime& runtime, const RunConfig& config, const ResumeOptions& resume);
  ExitCode run();

 private:
  void restore(const ResumeOptions& resume);
  std::string checkpoint_to_resume(const ResumeOptions& resume) const;
  void put_aside_what_is_abandoned(const ResumeOptions& resume) const;
  void open_run_folder(const ResumeOptions& resume);
  void announce();
  StepReport next_step();
  void record(const StepReport& report);
  StepMetrics make_metrics(const StepReport& report);
  void evaluate_validation();
  void save();
  void stop_if_broken() const;
  void check_replicas();

  bool is_last() const { return session_.progress().step == config_.train.steps; }
  bool is_due(int64_t interval) const {
    return interval > 0 && (session_.progress().step % interval == 0 || is_last());
  }

  RunConfig config_;
  TrainingData data_;
  Session session_;
  std::string resumed_from_;
  double peak_flops_ = 0;
  Window window_;
  std::unique_ptr<JsonlWriter> jsonl_;  // rank 0
  Colour colour_;
};

/// The config with everything resolved that the data decides. With `load_from`
/// some of the model's keys were left open until now.
RunConfig resolved(RunConfig config, const TrainingData& data, int world_size) {
  resolve_vocabulary(config.model, data.vocab_size());
  resolve_autos(config.model);
  std::string errors;
  for (const std::string& error : validate(config, world_size))
    errors += (errors.empty() ? "" : "\n") + error;
  if (!errors.empty()) throw ConfigError(errors);
  return config;
}

/// Renames what a run that starts over would mix with its own: nothing is deleted.
void put_aside(const std::string& path) {
  if (!path_exists(path)) return;
  int number = 1;
  while (path_exists(path + ".old-" + std::to_string(number))) ++number;
  rename_path(path, path + ".old-" + std::to_string(number));
}

Trainer::Trainer(const Runtime& runtime, const RunConfig& config, const ResumeOptions& resume)
    : config_(config),
      data_(config.data, static_cast<uint64_t>(config.run.seed)),
      session_(runtime, resolved(config, data_, runtime.world_size())),
      colour_(!runtime.launched() && isatty(STDOUT_FILENO) != 0 ? Colour::kOn : Colour::kOff) {
  config_ = session_.config();
  restore(resume);
  peak_flops_ = measure_gemm_peak(compute_dtype(config_.train));
  open_run_folder(resume);
  announce();
}

void Trainer::restore(const ResumeOptions& resume) {
  resumed_from_ = checkpoint_to_resume(resume);
  if (!resumed_from_.empty()) {
    check_resumable(config_, data_.fingerprint(), resumed_from_);
    load_snapshot(session_, resumed_from_, Restore::kRun);
  } else if (config_.checkpoint.load_from) {
    const std::string source = resolve_checkpoint(*config_.checkpoint.load_from);
    check_same_model(config_, source);
    load_snapshot(session_, source, Restore::kWeights);
  }
}

/// Decided once for all ranks, so that no two start differently. Collective.
std::string Trainer::checkpoint_to_resume(const ResumeOptions& resume) const {
  using Mode = ResumeOptions::Mode;
  Communicator& world = *session_.mesh().world;
  const std::string folder = checkpoints_dir_of(config_);
  if (resume.mode == Mode::kPath) {
    return broadcast_text(world, session_.is_root() ? resolve_checkpoint(resume.path) : "", 0,
                          "resume decision");
  }
  if (resume.mode == Mode::kNever) return "";
  std::vector<std::string> complaints;
  const std::string newest = newest_valid(world, folder, &complaints);
  for (const std::string& complaint : complaints) log_warning("not resumed from: " + complaint);
  if (newest.empty() && resume.mode == Mode::kStrict) {
    throw ConfigError("--resume strict: " + folder +
                      " has no checkpoint; use --resume auto to start a new run");
  }
  return newest;
}

/// Starting over abandons all of the old run; going on from a step abandons the
/// checkpoints of later ones, which a later `auto` must not take for this run's newest.
void Trainer::put_aside_what_is_abandoned(const ResumeOptions& resume) const {
  const std::string folder = checkpoints_dir_of(config_);
  if (resume.mode == ResumeOptions::Mode::kNever) {
    put_aside(folder);
    put_aside(run_dir_of(config_) + "/metrics.jsonl");
    return;
  }
  for (const int64_t step : list_steps(folder)) {
    if (step > session_.progress().step) put_aside(folder + "/" + step_folder_name(step));
  }
}

void Trainer::open_run_folder(const ResumeOptions& resume) {
  session_.mesh().world->barrier("all ranks have loaded");  // what is put aside may be the source
  if (session_.is_root()) {
    const std::string folder = run_dir_of(config_);
    put_aside_what_is_abandoned(resume);
    make_folders(folder);
    write_file_atomically(folder + "/config.yaml", to_yaml(config_));
    truncate_after_step(folder + "/metrics.jsonl", session_.progress().step);
    jsonl_ = std::make_unique<JsonlWriter>(folder + "/metrics.jsonl");
  }
  session_.mesh().world->barrier("run folder");
}

void Trainer::announce() {
  const Communicator& world = *session_.mesh().world;
  log_info(model_line(config_));
  log_info(layout_line(config_, world.size()));
  log_info(memory_line(session_.store().bytes()));
  log_info("run      " + run_dir_of(config_) +
           (resumed_from_.empty() ? "" : ", going on from " + resumed_from_));
  for (const std::string& remark : advice(config_)) log_warning(remark);
  for (const DataSource& source : config_.data.path) {
    if (config_.train.eval_interval > 0 && !has_split(source.path, "val")) {
      log_warning(source.path + " has no validation split: it is not evaluated");
    }
  }
}

ExitCode Trainer::run() {
  window_ = Window{};
  while (session_.progress().step < config_.train.steps) {
    const StepReport report = next_step();
    stop_if_broken();
    if (is_due(config_.train.check_replicas_interval)) check_replicas();
    if (session_.progress().step == 1 || is_due(config_.train.log_interval)) record(report);
    if (is_due(config_.train.eval_interval)) evaluate_validation();
    if (is_due(config_.checkpoint.interval)) save();
  }
  return kExitOk;
}

StepReport Trainer::next_step() {
  std::vector<MicroBatch> batches;
  {
    const Span span(window_.phases.data_ms);
    batches = read_step(session_, data_);
  }
  StepReport report = train_step(session_, batches);
  window_.add(report.phases);
  return report;
}

void Trainer::stop_if_broken() const {
  const Progress& progress = session_.progress();
  if (progress.skipped_in_row == 0) return;
  log_warning("step " + std::to_string(progress.step) +
              " skipped: its loss or a gradient is not finite");
  if (progress.skipped_in_row > config_.train.max_skipped_steps) {
    throw NonFiniteError(std::to_string(progress.skipped_in_row) +
                         " steps in a row were not finite (train.max_skipped_steps " +
                         std::to_string(config_.train.max_skipped_steps) +
                         "); go back to an earlier checkpoint with a lower optim.lr");
  }
}

/// Replicated weights have to be the same bits on every rank. Collective.
void Trainer::check_replicas() {
  const at::Tensor& weights = session_.store().buffer(ParameterKind::kDense).weights;
  const std::string mine = digest_text(xxh3(weights.data_ptr(), weights.nbytes()));
  const auto digests =
      all_gather_text(*session_.mesh().world, mine, "digests of replicated weights");
  for (size_t rank = 1; rank < digests.size(); ++rank) {
    if (digests[rank] == digests[0]) continue;
    throw CommError("after step " + std::to_string(session_.progress().step) + " rank " +
                    std::to_string(rank) +
                    " holds other dense weights than rank 0; go back to the last checkpoint and "
                    "check that host's memory");
  }
}

void Trainer::record(const StepReport& report) {
  const StepMetrics metrics = make_metrics(report);
  if (session_.is_root()) {
    std::printf("%s\n", step_line(metrics, config_.train.steps, colour_).c_str());
    std::fflush(stdout);
    jsonl_->append(metrics);
  }
  window_ = Window{};
}

StepMetrics Trainer::make_metrics(const StepReport& report) {
  const Progress& progress = session_.progress();
  const auto steps = static_cast<double>(window_.steps);
  const double elapsed_ms =
      std::chrono::duration<double, std::milli>(Clock::now() - window_.start).count();
  const PhaseTimes& p = window_.phases;
  at::Tensor slowest = at::tensor({elapsed_ms, p.data_ms, p.forward_ms, p.backward_ms, p.comm_ms,
                                   p.optimizer_ms, static_cast<double>(peak_rss_bytes())},
                                  at::kDouble);
  at::Tensor peak = at::tensor({peak_flops_}, at::kDouble);
  session_.mesh().world->all_reduce(slowest, ReduceOp::kMax, "times of the slowest rank");
  session_.mesh().world->all_reduce(peak, ReduceOp::kSum, "peak rates");
  const double* x = slowest.data_ptr<double>();

  StepMetrics metrics;
  metrics.step = progress.step;
  metrics.tokens = progress.tokens;
  metrics.loss = report.loss;
  metrics.aux_loss = report.aux;
  metrics.z_loss = report.z;
  metrics.grad_norm = report.norms.total;
  metrics.grad_norm_dense = report.norms.dense;
  metrics.grad_norm_expert = report.norms.expert;
  metrics.lr = report.lr;
  metrics.step_ms = x[0] / steps;
  const auto step_tokens =
      static_cast<double>(config_.train.global_batch_size * config_.data.sequence_length);
  metrics.tokens_per_second = step_tokens * steps / x[0] * 1e3;
  metrics.mfu = metrics.tokens_per_second * session_.size().flops_per_token / peak.item<double>();
  metrics.phases = {x[1] / steps, x[2] / steps, x[3] / steps, x[4] / steps, x[5] / steps, 0.0};
  metrics.peak_rss_bytes = static_cast<int64_t>(x[6]);
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

/// Each source's validation split: `val`, or `val/NAME` where there are several.
void Trainer::evaluate_validation() {
  const Clock::time_point start = Clock::now();
  for (int64_t i = 0; i < data_.num_sources(); ++i) {
    if (!has_split(config_.data.path[i].path, "val")) continue;
    EvalMetrics metrics =
        evaluate(session_, config_.data.path[i].path, "val", config_.data.sequence_length,
                 config_.train.eval_batches * config_.train.global_batch_size);
    if (data_.num_sources() > 1) metrics.split += "/" + data_.source_name(i);
    if (session_.is_root()) {
      std::printf("%s\n", eval_line(metrics, config_.train.steps, colour_).c_str());
      std::fflush(stdout);
      jsonl_->append(metrics);
    }
  }
  window_.start += Clock::now() - start;
}

void Trainer::save() {
  const Clock::time_point start = Clock::now();
  const std::string folder = checkpoints_dir_of(config_);
  if (session_.is_root()) make_folders(folder);
  session_.mesh().world->barrier("checkpoints folder");
  save_snapshot(session_, folder, data_.fingerprint(), tokenizer_files(config_.data));
  if (session_.is_root() && config_.checkpoint.keep > 0) retain(folder, config_.checkpoint.keep);
  window_.start += Clock::now() - start;
}

}  // namespace

ExitCode run_training(const Runtime& runtime, RunConfig config, const ResumeOptions& resume) {
  Trainer trainer(runtime, config, resume);
  return trainer.run();
}

std::string describe_run(RunConfig config, int world_size) {
  if (config.model.vocab_size == kAuto)
    resolve_vocabulary(config.model, read_dataset_meta(config.data.path.front().path).vocab_size);
  std::string text = model_line(config) + "\n" + layout_line(config, world_size) + "\n" +
                     memory_line(planned_bytes(config, world_size)) + "\n";
  for (const std::string& remark : advice(config)) text += "note     " + remark + "\n";
  return text;
}

}  // namespace switchyard
