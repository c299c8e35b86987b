#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "distributed/communicator.h"

namespace switchyard {

// S rows of all ranks' experts on the senders' side, R_c rows of chunk c on the receivers'.

/// Places of the rows of one chunk.
struct ChunkBlocks {
  RowBlocks whole;  // in the one tensor (S, D)
  RowBlocks part;   // in the chunk's own (R_c, D), which they tile
};

class ChunkedExchange;

/// Rows of one tensor that go to their receivers in chunks, so that what is computed on a chunk
/// runs while others are under way. The chunks together tile the one tensor. Backward, gradients
/// come back chunk by chunk as they are made, and are waited for at the end.
///
///   ScatteredRows rows(x_SD, chunks, group, purpose);   // all chunks begin
///   for c: y_c = f(rows.wait(c));
///
/// Collective over `group`, forward and backward, with zero rows too: every rank waits for every
/// chunk, in order. Where x requires a gradient, every chunk does. `group` must outlive the
/// graph. `purpose` must be a literal.
class ScatteredRows {
 public:
  ScatteredRows(const at::Tensor& x_SD, const std::vector<ChunkBlocks>& chunks, Communicator& group,
                const char* purpose);

  /// Chunk c (R_c, D), all of it here.
  at::Tensor wait(int64_t c);

 private:
  std::shared_ptr<ChunkedExchange> exchange_;
  std::vector<at::Tensor> parts_;
};

/// The way back: chunks leave as they are made, and together they are one tensor.
///
///   GatheredRows rows(chunks, group, purpose);
///   for c: rows.send(c, y_c);
///   y_SD = rows.wait();
///
/// Backward, all chunks of the gradient begin at once, and are waited for one by one, the last
/// first. Collective as above; where one chunk requires a gradient all must, on all ranks.
class GatheredRows {
 public:
  GatheredRows(const std::vector<ChunkBlocks>& chunks, Communicator& group, const char* purpose);

  void send(int64_t c, const at::Tensor& part_RD);

  /// (S, D)
  at::Tensor wait();

 private:
  std::shared_ptr<ChunkedExchange> exchange_;
  std::vector<at::Tensor> parts_;
};

}  // namespace switchyard
