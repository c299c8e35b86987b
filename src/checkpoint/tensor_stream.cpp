#include "checkpoint/tensor_stream.h"

#include <algorithm>

namespace switchyard {

TensorStream::TensorStream(CheckpointReader& reader, const TensorRecord& tensor)
    : reader_(reader), tensor_(tensor) {}

size_t TensorStream::read(std::span<std::byte> out) {
  size_t filled = 0;
  while (filled < out.size() && slice_ < tensor_.slices.size()) {
    const Slice& slice = tensor_.slices[slice_];
    if (in_slice_ == 0) open_slice();
    const size_t piece = std::min<uint64_t>(out.size() - filled, slice.bytes - in_slice_);
    file_->pread_exact(slice.offset + in_slice_, out.subspan(filled, piece));
    digest_->update(out.data() + filled, piece);
    filled += piece;
    in_slice_ += piece;
    if (in_slice_ == slice.bytes) close_slice();
  }
  return filled;
}

void TensorStream::open_slice() {
  const size_t shard = tensor_.slices[slice_].shard;
  reader_.check_shard_header(shard);
  file_.emplace(reader_.path() + "/" + reader_.manifest().shards[shard].name, Symlinks::kRefuse);
  digest_.emplace();
}

void TensorStream::close_slice() {
  reader_.check_slice_digest(tensor_, tensor_.slices[slice_], digest_->digest());
  ++slice_;
  in_slice_ = 0;
}

}  // namespace switchyard
