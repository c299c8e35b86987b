#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

namespace switchyard {

/// Bytes of device memory that are in the host's at once, twice: those that are visited, and the
/// next on their way.
constexpr int64_t kDevicePieceBytes = int64_t{4} << 20;

/// Calls `visit` with the bytes of a contiguous tensor from the first to the last, piece by piece.
/// Those of a host tensor are one piece, where they are. Those of a device come as they were when
/// this was called, behind what is enqueued on the current stream, in pieces of kDevicePieceBytes
/// that are the visitor's until it returns: one is visited while the next is copied, from a GPU
/// through pinned memory. Local.
void for_each_piece(const at::Tensor& x,
                    const std::function<void(const void* data, uint64_t bytes)>& visit);

}  // namespace switchyard
