#include "checkpoint/checkpoint_saver.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cstring>

#include "base/failpoint.h"
#include "checkpoint/retention.h"

namespace switchyard {
namespace {

constexpr int64_t kCopyPieceBytes = int64_t{4} << 20;
constexpr uint64_t kAlignment = 64;

uint64_t aligned(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

void copy_with_all_threads(std::byte* to, const void* from, uint64_t bytes) {
  const auto n = static_cast<int64_t>(bytes);
  at::parallel_for(0, n, kCopyPieceBytes, [&](int64_t begin, int64_t end) {
    std::memcpy(to + begin, static_cast<const std::byte*>(from) + begin, end - begin);
  });
}

}  // namespace

SaveReport CheckpointSaver::save(CheckpointInfo info, const std::vector<OwnedSlice>& slices) {
  begin(std::move(info));
  write(slices);
  return *finish();
}

void CheckpointSaver::start(CheckpointInfo info, const std::vector<OwnedSlice>& slices) {
  begin(std::move(info));
  write(copied(slices));
}

void CheckpointSaver::begin(CheckpointInfo info) {
  TORCH_CHECK(!under_way(), "CheckpointSaver: a save is under way");
  start_ = Clock::now();
  save_ = std::make_unique<CheckpointSave>(world_, options_.checkpoints_dir, std::move(info),
                                           options_.read_back);
  report_ = {save_->step(), save_->folder(), {}, "", 0};
  committing_ = false;
}

void CheckpointSaver::write(std::vector<OwnedSlice> slices) {
  part_ = std::async(std::launch::async, [this, slices = std::move(slices)] {
    failpoint("save.write");
    return save_->write_shard(slices);
  });
}

std::vector<OwnedSlice> CheckpointSaver::copied(const std::vector<OwnedSlice>& slices) {
  uint64_t total = 0;
  for (const OwnedSlice& slice : slices) total += aligned(slice_bytes(slice));
  if (staging_bytes_ < total) {
    staging_ = std::make_unique_for_overwrite<std::byte[]>(total);
    staging_bytes_ = total;
  }
  std::vector<OwnedSlice> copies = slices;
  std::byte* at = staging_.get();
  for (OwnedSlice& copy : copies) {
    const uint64_t bytes = slice_bytes(copy);
    if (copy.pieces) {
      copy.pieces([to = at](const void* data, uint64_t count) mutable {
        copy_with_all_threads(to, data, count);
        to += count;
      });
      copy.pieces = nullptr;
    } else {
      copy_with_all_threads(at, copy.data, bytes);
    }
    copy.data = at;
    at += aligned(bytes);
  }
  return copies;
}

std::optional<SaveReport> CheckpointSaver::poll() {
  if (!under_way() || !all_ranks_are_through()) return std::nullopt;
  return next_phase();
}

std::optional<SaveReport> CheckpointSaver::finish() {
  std::optional<SaveReport> report;
  while (under_way()) {
    if (part_.valid()) part_.wait();
    report = next_phase();
  }
  return report;
}

bool CheckpointSaver::all_ranks_are_through() const {
  const bool mine =
      !part_.valid() || part_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  at::Tensor waiting = at::full({1}, mine ? 0 : 1, at::kLong);
  world_.all_reduce(waiting, ReduceOp::kMax, "ranks that still write the checkpoint");
  return waiting.item<int64_t>() == 0;
}

/// Called when every rank is through with its part of this phase, or will wait for it.
std::optional<SaveReport> CheckpointSaver::next_phase() {
  const SaveOutcome mine = part_.valid() ? part_.get() : SaveOutcome{};
  if (!committing_) {
    committing_ = true;
    const std::vector<SaveOutcome> shards = save_->gather(world_, mine);
    if (world_.rank() == 0) {
      part_ = std::async(std::launch::async, [this, shards] { return commit_and_retain(shards); });
    }
    return std::nullopt;
  }
  report_.outcome = broadcast_outcome(world_, mine, /*root=*/0);
  report_.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  save_.reset();
  return report_;
}

SaveOutcome CheckpointSaver::commit_and_retain(const std::vector<SaveOutcome>& shards) {
  SaveOutcome outcome = save_->commit(shards);
  if (!outcome.done()) return outcome;
  try {
    save_->remove_replaced();
    retain(options_.checkpoints_dir, options_.keep);
  } catch (const std::exception& error) {
    report_.complaint = error.what();
  }
  return outcome;
}

}  // namespace switchyard
