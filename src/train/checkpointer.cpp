#include "train/checkpointer.h"

#include <cstdio>

#include "base/log.h"
#include "metrics/span.h"
#include "train/snapshot.h"

namespace switchyard {
namespace {

CheckpointSaver::Options saver_options(const CheckpointConfig& config, const std::string& folder) {
  return {folder, config.keep, config.read_back};
}

std::string seconds_text(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f s", seconds);
  return text;
}

}  // namespace

Checkpointer::Checkpointer(Session& session, const std::string& checkpoints_dir,
                           std::string data_fingerprint, NamedFiles files)
    : session_(session),
      saver_(*session.mesh().world, saver_options(session.config().checkpoint, checkpoints_dir)),
      data_fingerprint_(std::move(data_fingerprint)),
      files_(std::move(files)) {}

void Checkpointer::carry(const NamedFiles& files) {
  for (const auto& file : files) {
    if (find_file(files_, file.first) == nullptr) files_.push_back(file);
  }
}

void Checkpointer::set_newest(const std::string& folder, int64_t step) {
  newest_ = folder;
  newest_step_ = step;
  session_.record().set_last_checkpoint(folder);
}

void Checkpointer::save() {
  if (!session_.config().checkpoint.async) return save_and_wait();
  finish();
  const FlightRecord::Phase phase(session_.record(), "save");
  save_stall_ms_ = 0;
  {
    const Span span(save_stall_ms_);
    saver_.start(snapshot_info(session_, data_fingerprint_, files_),
                 owned_slices(session_, SliceOf::kState));
  }
  stall_ms_ += save_stall_ms_;
}

void Checkpointer::save_and_wait() {
  finish();
  if (newest_step_ == session_.progress().step) return;
  const FlightRecord::Phase phase(session_.record(), "save");
  const SaveReport report = saver_.save(snapshot_info(session_, data_fingerprint_, files_),
                                        owned_slices(session_, SliceOf::kState));
  save_stall_ms_ = report.seconds * 1e3;
  stall_ms_ += save_stall_ms_;
  conclude(report);
}

void Checkpointer::poll() { conclude(saver_.poll()); }

void Checkpointer::finish() {
  if (!saver_.under_way()) return;
  const FlightRecord::Phase phase(session_.record(), "save");
  double waited_ms = 0;
  std::optional<SaveReport> report;
  {
    const Span span(waited_ms);
    report = saver_.finish();
  }
  save_stall_ms_ += waited_ms;
  stall_ms_ += waited_ms;
  conclude(report);
}

void Checkpointer::conclude(const std::optional<SaveReport>& report) {
  if (!report) return;
  const bool keep_going = session_.config().checkpoint.on_failure == "continue" &&
                          report->outcome.kind != SaveOutcome::Kind::kNonFinite;
  if (!report->outcome.done() && keep_going) {
    log_warning("step " + std::to_string(report->step) + ": " + report->outcome.complaint() +
                "; training goes on (checkpoint.on_failure: continue)");
    return;
  }
  report->outcome.throw_unless_done(
      "; mend that, then the same command goes on from the newest whole checkpoint "
      "(checkpoint.on_failure: continue would have trained on)");
  set_newest(report->folder, report->step);
  log_info("saved    " + report->folder + " in " + seconds_text(report->seconds) +
           ", training waited " + seconds_text(save_stall_ms_ / 1e3));
  if (!report->complaint.empty()) {
    log_warning("older checkpoints were not removed: " + report->complaint);
  }
}

}  // namespace switchyard
