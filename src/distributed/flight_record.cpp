#include "distributed/flight_record.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>
#include <exception>
#include <utility>

#include "base/error.h"
#include "base/failpoint.h"
#include "base/file.h"
#include "base/log.h"
#include "distributed/record_layout.h"

namespace switchyard {
namespace {

using namespace record_layout;

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof(name) - 1);
  return name;
}

const char* word_for(RankStatus status) {
  switch (status) {
    case RankStatus::kRunning:
      return "running";
    case RankStatus::kFinished:
      return "finished";
    case RankStatus::kHung:
      return "hung";
    case RankStatus::kEnding:
      return "ending";
  }
  return "";
}

/// A number's digits, without allocating.
class Digits {
 public:
  explicit Digits(int64_t number) : end_(std::to_chars(text_, text_ + sizeof(text_), number).ptr) {}
  explicit Digits(double number)
      : end_(std::to_chars(text_, text_ + sizeof(text_), number, std::chars_format::fixed, 3).ptr) {
  }
  std::string_view text() const { return {text_, static_cast<size_t>(end_ - text_)}; }

 private:
  char text_[32];
  char* end_;
};

void put_digits(char* at, int width, int64_t number) {
  for (int i = width - 1; i >= 0; --i, number /= 10) at[i] = static_cast<char>('0' + number % 10);
}

/// Writes the present as 2026-01-31T12:34:56.789Z.
void put_now(char* at) {
  using namespace std::chrono;
  const auto now = time_point_cast<milliseconds>(system_clock::now());
  const auto day = floor<days>(now);
  const year_month_day date(day);
  const hh_mm_ss time(now - day);
  std::memcpy(at, "0000-00-00T00:00:00.000Z", 24);
  put_digits(at, 4, static_cast<int>(date.year()));
  put_digits(at + 5, 2, static_cast<unsigned>(date.month()));
  put_digits(at + 8, 2, static_cast<unsigned>(date.day()));
  put_digits(at + 11, 2, time.hours().count());
  put_digits(at + 14, 2, time.minutes().count());
  put_digits(at + 17, 2, time.seconds().count());
  put_digits(at + 20, 3, time.subseconds().count());
}

/// Writes as much of `value` as the column takes; the rest of it stays as it is.
void put(char* row, Column column, std::string_view value) {
  std::memcpy(row + column.begin, value.data(),
              std::min(value.size(), static_cast<size_t>(column.width)));
}

/// Writes "3 0 2 5", or "3 0 ..." when not all fit.
void put_counts(char* row, Column column, const std::vector<int64_t>& counts) {
  char* at = row + column.begin;
  char* const end = at + column.width;
  for (size_t i = 0; i < counts.size(); ++i) {
    const Digits digits(counts[i]);
    const size_t bytes = digits.text().size() + (i > 0 ? 1 : 0);
    const size_t reserved = i + 1 < counts.size() ? kMore.size() : 0;
    if (static_cast<size_t>(end - at) < bytes + reserved) {
      std::memcpy(at, kMore.data(), kMore.size());
      return;
    }
    if (i > 0) ++at;
    at = std::copy(digits.text().begin(), digits.text().end(), at);
  }
}

}  // namespace

std::string record_path(const std::string& folder, int rank) {
  const std::string digits = std::to_string(rank);
  return folder + "/rank-" + std::string(5 - std::min<size_t>(5, digits.size()), '0') + digits +
         ".txt";
}

FlightRecord::FlightRecord(int rank, int world_size)
    : rank_(rank), memory_(kTextBytes, ' '), text_(memory_.data()) {
  for (int i = 0; i < kLines; ++i) line(i)[kLineBytes - 1] = '\n';
  put(line(kTitleLine), {0, kLineBytes - 1}, kTitle);
  write_header(kRank, "rank", Digits(int64_t{rank}).text());
  write_header(kWorld, "world", Digits(int64_t{world_size}).text());
  write_header(kHost, "host", printable(host_name()));
  write_header(kPid, "pid", Digits(int64_t{::getpid()}).text());
  write_header(kStatus, "status", word_for(RankStatus::kRunning));
  write_header(kStep, "step", "0");
  write_header(kPhase, "phase", "");
  write_since();
  write_header(kCheckpoint, "checkpoint", "");
  write_header(kCollectives, "collectives", "0");
  char* titles = line(kColumns);
  put(titles, kEntered, "entered");
  put(titles, kCommunicator, "communicator");
  put(titles, kNumber, "number");
  put(titles, kOp, "collective");
  put(titles, kBytes, "bytes");
  put(titles, kTook, "milliseconds");
  put(titles, kPurpose, "purpose");
  put(titles, kRowsTo, "rows to");
  put(titles, kRowsFrom, "rows from");
}

void FlightRecord::open(const std::string& folder) {
  make_folders(folder);
  const std::string path = record_path(folder, rank_);
  if (path_exists(path)) {
    rename_path(path, path.substr(0, path.size() - 4) + ".previous.txt");
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  auto file = std::make_unique<SharedMapping>(path, std::string_view(text_, kTextBytes));
  text_ = file->data();
  file_ = std::move(file);
  folder_ = folder;
}

void FlightRecord::set_step(int64_t step) {
  const std::lock_guard<std::mutex> lock(mutex_);
  step_ = step;
  write_header(kStep, "step", Digits(step).text());
  write_since();
}

void FlightRecord::set_last_checkpoint(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mutex_);
  last_checkpoint_ = path;
  write_header(kCheckpoint, "checkpoint", printable(path));
}

void FlightRecord::set_status(RankStatus status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  write_header(kStatus, "status", word_for(status));
}

FlightRecord::Phase::Phase(FlightRecord& record, const char* name)
    : Phase(record, name, record.enter_phase(name)) {
  failpoint(name);
}

FlightRecord::Phase::Phase(FlightRecord& record, const char* /*name*/, const char* outer)
    : record_(record), outer_(outer), exceptions_(std::uncaught_exceptions()) {}

FlightRecord::Phase::~Phase() {
  record_.leave_phase(outer_, std::uncaught_exceptions() > exceptions_);
}

const char* FlightRecord::enter_phase(const char* name) {
  const std::lock_guard<std::mutex> lock(mutex_);
  failed_phase_ = "";
  write_header(kPhase, "phase", name);
  write_since();
  return phase_.exchange(name);
}

void FlightRecord::leave_phase(const char* outer, bool by_exception) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const char* const left = phase_.exchange(outer);
  const bool innermost = *failed_phase_ == '\0';
  if (by_exception && innermost) failed_phase_ = left;
  write_header(kPhase, "phase", outer);
  write_since();
}

std::string FlightRecord::where() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::string phase = *failed_phase_ != '\0' ? failed_phase_ : phase_.load();
  if (step_ == 0 && phase.empty()) return "";
  std::string text = step_ > 0 ? "step " + std::to_string(step_) : "";
  if (!phase.empty()) text += (text.empty() ? "" : ", ") + phase;
  if (!last_checkpoint_.empty()) text += "; last checkpoint " + last_checkpoint_;
  return " (" + text + ")";
}

std::string FlightRecord::text() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return {text_, kTextBytes};
}

void FlightRecord::sync() const {
  if (file_ != nullptr) file_->sync();
}

int FlightRecord::add_communicator(const std::string& name, Members members) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = std::ranges::find(names_, name);
  const auto index = found - names_.begin();
  if (found == names_.end()) {
    names_.push_back(name);
    counts_.push_back(0);
  } else {
    counts_[index] = 0;
    for (int i = 0; i < kRows; ++i) {
      char* row = line(kFirstRow + i);
      const std::string_view of(row + kCommunicator.begin, kCommunicator.width);
      if (of.substr(0, of.find_last_not_of(' ') + 1) == name) std::memset(row, ' ', kLineBytes - 1);
    }
  }
  if (index < kMaxCommunicators) {
    const std::string text = std::to_string(members.first) + " " + std::to_string(members.stride) +
                             " " + std::to_string(members.count) + " " + name;
    write_header(kCommunicators + static_cast<int>(index), "communicator", text);
  }
  return static_cast<int>(index);
}

int64_t FlightRecord::enter(int communicator, const char* op, const char* purpose, int64_t bytes,
                            const Rows* rows) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int64_t ticket = collectives_++;
  char* row = line(kFirstRow + static_cast<int>(ticket % kRows));
  std::memset(row, ' ', kLineBytes - 1);
  put_now(row + kEntered.begin);
  put(row, kCommunicator, names_[communicator]);
  put(row, kNumber, Digits(++counts_[communicator]).text());
  put(row, kOp, op);
  put(row, kBytes, Digits(bytes).text());
  put(row, kTook, kInside);
  put(row, kPurpose, purpose);
  if (rows != nullptr) {
    put_counts(row, kRowsTo, rows->to);
    put_counts(row, kRowsFrom, rows->from);
  }
  put(line(kCollectives), {kKeyBytes, 20}, Digits(collectives_).text());
  ++changes_;
  return ticket;
}

void FlightRecord::leave(int64_t ticket, double milliseconds) {
  write_took(ticket, Digits(milliseconds).text());
}

void FlightRecord::step_out(int64_t ticket) { write_took(ticket, kUnderWay); }

void FlightRecord::step_in(int64_t ticket) { write_took(ticket, kInside); }

void FlightRecord::write_took(int64_t ticket, std::string_view text) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++changes_;
  if (ticket + kRows <= collectives_) return;  // its row is another's by now
  char* row = line(kFirstRow + static_cast<int>(ticket % kRows));
  std::memset(row + kTook.begin, ' ', kTook.width);
  put(row, kTook, text);
}

void FlightRecord::write_header(int index, std::string_view key, std::string_view value) {
  char* row = line(index);
  std::memset(row, ' ', kLineBytes - 1);
  put(row, {0, kKeyBytes}, key);
  put(row, {kKeyBytes, kLineBytes - 1 - kKeyBytes}, value);
}

void FlightRecord::write_since() {
  put(line(kSince), {0, kKeyBytes}, "since");
  put_now(line(kSince) + kKeyBytes);
  ++changes_;
}

char* FlightRecord::line(int index) { return text_ + static_cast<size_t>(index) * kLineBytes; }

}  // namespace switchyard
