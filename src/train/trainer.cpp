#include "train/trainer.h"

#include <ATen/ATen.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <optional>

#include "base/checksum.h"
#include "base/file.h"
#include "base/log.h"
#include "base/stop_signal.h"
#include "checkpoint/device_pieces.h"
#include "checkpoint/step_folder.h"
#include "config/load_config.h"
#include "data/dataset_meta.h"
#include "data/token_dataset.h"
#include "data/tokenizer.h"
#include "distributed/watchdog.h"
#include "ops/gemm_peak.h"
#include "train/checkpointer.h"
#include "train/evaluator.h"
#include "train/model_source.h"
#include "train/routing_file.h"
#include "train/run_description.h"
#include "train/run_log.h"
#include "train/snapshot.h"
#include "train/token_counts.h"
#include "train/train_step.h"

namespace switchyard {
namespace {

/// What a checkpoint needs of the data folder to turn text into tokens: meta.json
/// and the tokenizer's files, under their own names.
NamedFiles tokenizer_files(const DataConfig& data) {
  const std::string& dir = data.path.front().path;
  NamedFiles files = {{"meta.json", read_file(dir + "/meta.json")}};
  for (const std::string& name : dataset_tokenizer_files(dir, read_dataset_meta(dir))) {
    files.emplace_back(name, read_file(dir + "/" + name));
  }
  return files;
}

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

/// The loop of one run on this rank.
class Trainer {
 public:
  Trainer(const Runtime& runtime, const RunConfig& config, const ResumeOptions& resume,
          ConsoleStyle style);
  ExitCode run();

 private:
  void restore(const ResumeOptions& resume);
  void start_from(const std::string& checkpoint);
  void start_watchdog();
  void open_run_folder(const ResumeOptions& resume);
  void announce(const std::vector<std::string>& hosts);
  void write_run_record(const std::vector<std::string>& hosts, double peak_flops);
  StepReport next_step();
  void evaluate_validation();
  void save_if_due();
  ExitCode stop_early(int signal);
  void stop_if_broken() const;
  bool roll_back();
  void check_replicas();
  int agreed_stop_signal();

  Communicator& world() const { return *session_.mesh().world; }
  bool is_last() const { return session_.progress().step == config_.train.steps; }
  bool is_due(int64_t interval) const { return is_due_at(session_.progress().step, interval); }
  bool is_due_at(int64_t step, int64_t interval) const {
    return interval > 0 && (step % interval == 0 || step == config_.train.steps);
  }
  bool is_recorded(int64_t step) const {
    return step == 1 || is_due_at(step, config_.train.log_interval);
  }

  RunConfig config_;
  TrainingData data_;
  Session session_;
  RunFolder folder_;
  Checkpointer checkpointer_;
  std::string resumed_from_;
  std::unique_ptr<RunLog> log_;
  RoutingCensus census_;  // of the last recorded step
  RoutingFile routing_file_;
  std::unique_ptr<Watchdog> watchdog_;
};

/// The config with everything resolved that the data decides.
RunConfig resolved(RunConfig config, const TrainingData& data, int world_size) {
  resolve_vocabulary(config.model, data.vocab_size());
  std::string errors;
  for (const std::string& error : validate(config, world_size))
    errors += (errors.empty() ? "" : "\n") + error;
  if (!errors.empty()) throw ConfigError(errors);
  return config;
}

Trainer::Trainer(const Runtime& runtime, const RunConfig& config, const ResumeOptions& resume,
                 ConsoleStyle style)
    : config_(config),
      data_(config.data, static_cast<uint64_t>(config.run.seed)),
      session_(runtime, resolved(config, data_, runtime.world_size())),
      folder_(config.run),
      checkpointer_(session_, folder_.checkpoints(), data_.fingerprint(),
                    tokenizer_files(config.data)),
      routing_file_(session_, data_, folder_.routing()) {
  config_ = session_.config();
  if (session_.is_root()) folder_.lock_if_there();
  restore(resume);
  const double peak_flops = measure_gemm_peak(compute_dtype(config_.train), session_.device());
  log_ = std::make_unique<RunLog>(session_, folder_, peak_flops, style);
  open_run_folder(resume);
  const std::vector<std::string> hosts = all_gather_text(world(), host_name(), "host names");
  write_run_record(hosts, peak_flops);
  announce(hosts);
}

/// The ranks have verified together what they load here.
void Trainer::restore(const ResumeOptions& resume) {
  resumed_from_ = checkpoint_to_resume(world(), folder_, resume);
  if (!resumed_from_.empty()) {
    check_resumable(config_, data_.fingerprint(), resumed_from_);
    if (resumed_from_.starts_with(folder_.path() + "/")) start_watchdog();
    const FlightRecord::Phase phase(session_.record(), "load");
    load_snapshot(session_, resumed_from_, Restore::kRun, Digests::kTrust);
    checkpointer_.carry(open_model(resumed_from_).files);
  } else if (config_.checkpoint.load_from) {
    start_from(*config_.checkpoint.load_from);
  } else {
    prepare_routers(session_, data_);
  }
}

/// Another run's or tool's weights, for step 1 of this run.
void Trainer::start_from(const std::string& checkpoint) {
  ModelSource source = open_model(checkpoint);
  check_same_model(config_, source.config, source.path());
  if (source.meta && !same_tokenizer(*source.meta, data_.meta())) {
    log_warning(config_.data.path.front().path +
                " was prepared with another tokenizer than that of " + source.path() +
                ": its tokens mean something else to this model");
  }
  const bool with_moments = config_.checkpoint.load_optimizer_state;
  if (with_moments && !source.tensors->has("model.norm.weight.exp_avg")) {
    throw ConfigError("checkpoint.load_optimizer_state: " + source.path() +
                      " has no optimizer state; leave the key out");
  }
  load_tensors(session_, *source.tensors, with_moments ? Restore::kRun : Restore::kWeights);
  if (with_moments) session_.progress().updates = source.state.value("updates", int64_t{0});
  checkpointer_.carry(source.files);
}

/// From here on a rank that hangs or vanishes is noticed; the run's folder is there.
void Trainer::start_watchdog() {
  if (watchdog_) return;
  session_.record().open(folder_.flight());
  const Mesh& mesh = session_.mesh();
  watchdog_ = std::make_unique<Watchdog>(
      session_.record(), world(),
      Watchdog::Limits{config_.watchdog.timeout_seconds, config_.watchdog.save_timeout_seconds},
      std::vector<Communicator*>{mesh.world.get(), mesh.expert.get(), mesh.data.get()});
}

void Trainer::open_run_folder(const ResumeOptions& resume) {
  world().barrier("all ranks have loaded");  // what is put aside may be the source
  if (session_.is_root()) {
    folder_.open(config_, resume.mode, session_.progress().step);
    log_->open();
  }
  world().barrier("run folder");
  start_watchdog();
  const std::string own = folder_.checkpoints() + "/" + step_folder_name(session_.progress().step);
  if (own == resumed_from_) checkpointer_.set_newest(own, session_.progress().step);
}

/// Collective.
void Trainer::write_run_record(const std::vector<std::string>& hosts, double peak_flops) {
  at::Tensor peak = at::full({1}, peak_flops, at::kDouble);
  world().all_reduce(peak, ReduceOp::kSum, "peaks of the ranks");
  if (!session_.is_root()) return;
  RunRecord record = describe_run(session_, data_);
  record.peak_flops = peak.item<double>();
  record.started = {{utc_now(), session_.progress().step, world().size(), hosts, resumed_from_}};
  switchyard::write_run_record(folder_.run_record(), record);
}

void Trainer::announce(const std::vector<std::string>& hosts) {
  const Communicator& world = *session_.mesh().world;
  log_info(model_line(config_));
  log_info(layout_line(config_, world.size()));
  log_info(memory_line(plan_memory(config_, compute_dtype(config_.train), world.size())));
  log_info(data_lines(data_, config_, session_.size()));
  log_info(run_line(folder_.path(), hosts, resumed_from_));
  for (const std::string& remark : advice(config_)) log_warning(remark);
  for (const DataSource& source : config_.data.path) {
    if (config_.train.eval_interval > 0 && !has_split(source.path, "val")) {
      log_warning(source.path + " has no validation split: it is not evaluated");
    }
  }
}

ExitCode Trainer::run() {
  log_->restart();
  if (session_.progress().evaluation_owed) evaluate_validation();
  while (session_.progress().step < config_.train.steps) {
    if (const int signal = agreed_stop_signal()) return stop_early(signal);
    const StepReport report = next_step();
    stop_if_broken();
    if (report.spike && roll_back()) continue;
    if (is_due(config_.train.check_replicas_interval)) check_replicas();
    if (is_recorded(session_.progress().step)) log_->record(report, census_);
    if (is_due(config_.train.eval_interval)) {
      evaluate_validation();
    } else if (is_last()) {
      routing_file_.write(census_, TokenCensus());
    }
    save_if_due();
  }
  if (session_.progress().evaluation_owed) return stop_early(stop_signal());
  checkpointer_.finish();
  return kExitOk;
}

/// The stop signal that came to any rank, 0 if none did: all stop at the same step.
/// Collective.
int Trainer::agreed_stop_signal() {
  at::Tensor signal = at::full({1}, stop_signal(), at::kLong);
  world().all_reduce(signal, ReduceOp::kMax, "stop signals");
  return static_cast<int>(signal.item<int64_t>());
}

/// Saves at this step boundary and ends the run, to be gone on with.
ExitCode Trainer::stop_early(int signal) {
  const std::string step = std::to_string(session_.progress().step);
  log_warning("asked to stop (" + std::string(stop_signal_name(signal)) + "): saving step " + step);
  checkpointer_.save_and_wait();
  log_info("stopped after step " + step + "; start the same command again to go on from " +
           checkpointer_.newest());
  return kExitPreempted;
}

StepReport Trainer::next_step() {
  session_.record().set_step(session_.progress().step + 1);
  std::vector<MicroBatch> batches;
  {
    const Span span(log_->times().data_ms);
    const FlightRecord::Phase phase(session_.record(), "data");
    batches = read_step(session_, data_);
  }
  const bool recorded = is_recorded(session_.progress().step + 1);
  if (recorded) census_ = RoutingCensus();
  StepReport report = train_step(session_, batches, recorded ? &census_ : nullptr);
  log_->add(report.phases);
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

/// After a spike: with `rollback`, the last checkpoint again, and on with the samples
/// behind those that led to the spike. Returns whether it went back. Collective.
bool Trainer::roll_back() {
  const SpikeConfig& spike = config_.train.spike;
  Progress& progress = session_.progress();
  const std::string step = std::to_string(progress.step);
  checkpointer_.finish();
  const std::string source = checkpointer_.newest();
  if (spike.action != "rollback" || source.empty()) {
    log_warning("step " + step + " is a spike of the loss or the gradient norm: left out");
    return false;
  }
  const uint64_t behind =
      progress.cursor + static_cast<uint64_t>(spike.skip_steps) * config_.train.global_batch_size;
  const int64_t spikes = progress.spikes;
  {
    const FlightRecord::Phase phase(session_.record(), "load");
    load_snapshot(session_, source, Restore::kRun);
  }
  log_warning("step " + step + " is a spike of the loss or the gradient norm: rolled back to " +
              source + "; samples " + std::to_string(progress.cursor) + " to " +
              std::to_string(behind) + " of the order are left out");
  progress.cursor = behind;
  progress.spikes = spikes;
  checkpointer_.set_newest(source, /*step=*/-1);  // what stands now is not in it
  log_->cut_after(progress.step);
  log_->restart();
  return true;
}

/// Replicated weights have to be the same bits on every rank; those that are not as most
/// ranks have them are named. Collective.
void Trainer::check_replicas() {
  session_.store().finish_gather();
  Xxh3Stream stream;
  for_each_piece(session_.store().buffer(ParameterKind::kDense).weights,
                 [&](const void* data, uint64_t bytes) { stream.update(data, bytes); });
  const std::string mine = digest_text(stream.digest());
  const auto digests = all_gather_text(world(), mine, "digests of replicated weights");
  std::map<std::string, std::vector<std::string>> ranks_of;
  for (size_t rank = 0; rank < digests.size(); ++rank) {
    ranks_of[digests[rank]].push_back(std::to_string(rank));
  }
  if (ranks_of.size() == 1) return;
  const auto most = std::max_element(ranks_of.begin(), ranks_of.end(), [](auto& a, auto& b) {
    return a.second.size() < b.second.size();
  });
  const bool majority = 2 * most->second.size() > digests.size();
  std::string odd;
  for (const auto& [digest, ranks] : ranks_of) {
    if (majority && digest == most->first) continue;
    for (const std::string& rank : ranks) odd += (odd.empty() ? "" : ", ") + rank;
  }
  throw CommError("after step " + std::to_string(session_.progress().step) +
                  (majority ? " rank " : " ranks ") + odd +
                  (majority ? " holds other dense weights than the other ranks"
                            : " hold different dense weights") +
                  "; go back to the last checkpoint and check the memory of that host");
}

/// Each source's validation split: `val`, or `val/NAME` where there are several. A stop
/// signal puts it off until the run goes on.
void Trainer::evaluate_validation() {
  const RunLog::Pause pause(*log_);
  std::vector<EvalMetrics> all;
  TokenCensus tokens;
  session_.progress().evaluation_owed = false;
  for (int64_t i = 0; i < data_.num_sources(); ++i) {
    if (!has_split(config_.data.path[i].path, "val")) continue;
    std::optional<EvalMetrics> metrics = evaluate(
        session_, config_.data.path[i].path, "val", config_.data.sequence_length,
        config_.train.eval_batches * config_.train.global_batch_size,
        [this] { return agreed_stop_signal() != 0; }, /*domain=*/i, &tokens);
    if (!metrics) {
      session_.progress().evaluation_owed = true;
      return;
    }
    if (data_.num_sources() > 1) metrics->split += "/" + data_.source_name(i);
    all.push_back(*metrics);
  }
  log_->record(all);
  routing_file_.write(census_, tokens);
}

void Trainer::save_if_due() {
  const RunLog::Pause pause(*log_);
  checkpointer_.poll();
  if (is_due(config_.checkpoint.interval)) {
    if (is_last()) {
      checkpointer_.save_and_wait();
    } else {
      checkpointer_.save();
    }
  }
  log_->times().checkpoint_ms += checkpointer_.take_stall_ms();
}

}  // namespace

ExitCode run_training(const Runtime& runtime, RunConfig config, const ResumeOptions& resume,
                      ConsoleStyle style) {
  if (config.checkpoint.interval == 0) release_stop_signals();  // nothing would be saved
  Trainer trainer(runtime, config, resume, style);
  return trainer.run();
}

}  // namespace switchyard
