#include "distributed/rank_state.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <sstream>

#include "base/error.h"
#include "distributed/record_layout.h"

namespace switchyard {
namespace {

using namespace record_layout;

class Text {
 public:
  explicit Text(std::string_view text) : text_(text) {
    if (text.size() != kTextBytes || !text.starts_with(kTitle)) {
      throw DataError("not a flight record of this version");
    }
  }

  std::string field(int line, Column column) const {
    const std::string_view whole = text_.substr(
        static_cast<size_t>(line) * kLineBytes + static_cast<size_t>(column.begin), column.width);
    return std::string(whole.substr(0, whole.find_last_not_of(' ') + 1));
  }
  std::string value(int line) const { return field(line, {kKeyBytes, kLineBytes - 1 - kKeyBytes}); }
  int64_t number(int line) const { return std::atoll(value(line).c_str()); }

 private:
  std::string_view text_;
};

RankStatus status_of(const std::string& word) {
  const std::map<std::string, RankStatus> words = {{"running", RankStatus::kRunning},
                                                   {"finished", RankStatus::kFinished},
                                                   {"hung", RankStatus::kHung},
                                                   {"ending", RankStatus::kEnding}};
  const auto found = words.find(word);
  return found == words.end() ? RankStatus::kRunning : found->second;
}

/// The epoch when `text` is no time.
WallClock::time_point time_of(const std::string& text) {
  using namespace std::chrono;
  int y = 0, mo = 0, d = 0, h = 0, mi = 0, s = 0, ms = 0;
  if (std::sscanf(text.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ", &y, &mo, &d, &h, &mi, &s, &ms) != 7)
    return {};
  const sys_days day = year(y) / mo / d;
  return day + hours(h) + minutes(mi) + seconds(s) + milliseconds(ms);
}

std::vector<int64_t> counts_of(const std::string& text, bool& cut) {
  std::vector<int64_t> counts;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (word == "...") {
      cut = true;
      return counts;
    }
    counts.push_back(std::atoll(word.c_str()));
  }
  return counts;
}

RecordedCollective collective_of(const Text& text, int line) {
  RecordedCollective made;
  made.entered = time_of(text.field(line, kEntered));
  made.communicator = text.field(line, kCommunicator);
  made.number = std::atoll(text.field(line, kNumber).c_str());
  made.op = text.field(line, kOp);
  made.purpose = text.field(line, kPurpose);
  made.bytes = std::atoll(text.field(line, kBytes).c_str());
  const std::string took = text.field(line, kTook);
  made.under_way = took == kUnderWay;
  if (took != kInside && took != kUnderWay) made.milliseconds = std::atof(took.c_str());
  made.rows_to = counts_of(text.field(line, kRowsTo), made.rows_cut);
  made.rows_from = counts_of(text.field(line, kRowsFrom), made.rows_cut);
  return made;
}

WallClock::time_point last_change(const RankState& state, WallClock::time_point since) {
  if (state.collectives.empty()) return since;
  const RecordedCollective& newest = state.collectives.back();
  const std::chrono::duration<double, std::milli> took(newest.milliseconds.value_or(0));
  return std::max(since, newest.entered + std::chrono::duration_cast<WallClock::duration>(took));
}

std::string join(const std::vector<int64_t>& numbers, bool cut) {
  std::string text;
  for (const int64_t number : numbers) {
    if (!text.empty()) text += ' ';
    text += std::to_string(number);
  }
  return "[" + text + (cut ? std::string(kMore) : "") + "]";
}

std::string seconds_text(WallClock::duration duration) {
  char text[32];
  const double seconds = std::max(0.0, std::chrono::duration<double>(duration).count());
  std::snprintf(text, sizeof(text), "%.1f s", seconds);
  return text;
}

}  // namespace

const RecordedCollective* RankState::inside() const {
  const auto is_inside = [](const RecordedCollective& call) {
    return !call.milliseconds && !call.under_way;
  };
  const auto found = std::find_if(collectives.rbegin(), collectives.rend(), is_inside);
  return found == collectives.rend() ? nullptr : &*found;
}

RankState parse_flight_record(std::string_view bytes) {
  const Text text(bytes);
  RankState state;
  state.rank = static_cast<int>(text.number(kRank));
  state.world_size = static_cast<int>(text.number(kWorld));
  state.host = text.value(kHost);
  state.pid = text.number(kPid);
  state.status = status_of(text.value(kStatus));
  state.step = text.number(kStep);
  state.phase = text.value(kPhase);
  state.checkpoint = text.value(kCheckpoint);
  for (int i = 0; i < kMaxCommunicators; ++i) {
    std::istringstream words(text.value(kCommunicators + i));
    RecordedCommunicator found;
    Members& members = found.members;
    if (!(words >> members.first >> members.stride >> members.count)) break;
    std::getline(words >> std::ws, found.name);
    state.communicators.push_back(found);
  }
  const int64_t entered = text.number(kCollectives);
  for (int64_t i = std::max<int64_t>(0, entered - kRows); i < entered; ++i) {
    RecordedCollective made = collective_of(text, kFirstRow + static_cast<int>(i % kRows));
    if (made.number > 0) state.collectives.push_back(std::move(made));
  }
  state.changed = last_change(state, time_of(text.value(kSince)));
  return state;
}

std::string describe(const RecordedCollective& collective) {
  return collective.op + " #" + std::to_string(collective.number) + " \"" + collective.purpose +
         "\" of " + collective.communicator;
}

std::string name_of(const RankState& state) {
  return "rank " + std::to_string(state.rank) + " (host " + state.host + ", pid " +
         std::to_string(state.pid) + ")";
}

std::string describe(const RankState& state, WallClock::time_point now) {
  std::string text = name_of(state) + ": ";
  text += state.step > 0 ? "step " + std::to_string(state.step) : "before the first step";
  if (!state.phase.empty()) text += ", " + state.phase;
  const RecordedCollective* inside = state.inside();
  if (inside == nullptr) {
    text += ", outside any collective since " + seconds_text(now - state.changed);
    if (!state.collectives.empty()) text += ", last in " + describe(state.collectives.back());
    return text;
  }
  text += ", " + seconds_text(now - inside->entered) + " in " + describe(*inside);
  if (inside->bytes > 0) text += ", " + std::to_string(inside->bytes) + " bytes";
  if (inside->rows_to.empty()) return text;
  return text + ", rows to " + join(inside->rows_to, inside->rows_cut) + " from " +
         join(inside->rows_from, inside->rows_cut);
}

std::string way_out(const std::string& checkpoint) {
  if (checkpoint.empty()) return "; no checkpoint yet";
  return "; last checkpoint " + checkpoint + ", from which --resume auto goes on";
}

}  // namespace switchyard
