#include "bench/phase_clock.h"

#include <ATen/SequenceNumber.h>
#include <c10/util/Exception.h>

#include <algorithm>

namespace switchyard {
namespace {

/// LibTorch calls plain functions back: on the thread that they were added on, and on those that
/// autograd has for devices, while that one waits for them.
PhaseClock*& listener() {
  static PhaseClock* clock = nullptr;
  return clock;
}

}  // namespace

PhaseClock::PhaseClock() {
  TORCH_CHECK(listener() == nullptr, "a PhaseClock listens already");
  listener() = this;
  handle_ = at::addThreadLocalCallback(
      at::RecordFunctionCallback(&on_start, &on_end)
          .scopes({at::RecordScope::USER_SCOPE, at::RecordScope::BACKWARD_FUNCTION}));
}

PhaseClock::~PhaseClock() { finish(); }

void PhaseClock::start_step() {
  if (started_) charge();
  started_ = true;
  since_ = Clock::now();
  nodes_.clear();
}

void PhaseClock::finish() {
  if (!listening_) return;
  if (started_) charge();
  at::removeCallback(handle_);
  listener() = nullptr;
  listening_ = false;
}

/// The time since the last event, to the innermost part.
void PhaseClock::charge() {
  const Clock::time_point now = Clock::now();
  const std::string part = open_.empty() ? "other" : open_.back().part;
  auto found = std::ranges::find(seconds_, part, &std::pair<std::string, double>::first);
  if (found == seconds_.end()) found = seconds_.insert(found, {part, 0.0});
  found->second += std::chrono::duration<double>(now - since_).count();
  since_ = now;
}

std::string PhaseClock::part_of_node(int64_t sequence_number) {
  if (sequence_number < 0) return last_of_backward_;  // gradients being accumulated
  const auto number = static_cast<uint64_t>(sequence_number);
  const Nodes* innermost = nullptr;
  for (const Nodes& nodes : nodes_) {
    if (number < nodes.begin || number >= nodes.end) continue;
    const bool inside =
        innermost == nullptr || nodes.end - nodes.begin < innermost->end - innermost->begin;
    if (inside) innermost = &nodes;
  }
  return innermost == nullptr ? "backward" : "backward of " + innermost->part;
}

std::unique_ptr<at::ObserverContext> PhaseClock::on_start(const at::RecordFunction& function) {
  PhaseClock& clock = *listener();
  clock.charge();
  if (function.scope() == at::RecordScope::USER_SCOPE) {
    clock.open_.push_back({function.name(), at::sequence_number::peek()});
  } else {
    clock.last_of_backward_ = clock.part_of_node(function.seqNr());
    clock.open_.push_back({clock.last_of_backward_, 0});
  }
  return nullptr;
}

void PhaseClock::on_end(const at::RecordFunction& function, at::ObserverContext* /*context*/) {
  PhaseClock& clock = *listener();
  clock.charge();
  if (function.scope() == at::RecordScope::USER_SCOPE) {
    const Open& region = clock.open_.back();
    clock.nodes_.push_back({region.part, region.begin, at::sequence_number::peek()});
  }
  clock.open_.pop_back();
}

}  // namespace switchyard
