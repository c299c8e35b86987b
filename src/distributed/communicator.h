#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "distributed/flight_record.h"

namespace switchyard {

enum class ReduceOp { kSum, kMax };

/// Rows of a tensor that go to the ranks of a communicator, or come from them, in blocks: as
/// many, B, for each rank, and rank r's are blocks [r * B, (r + 1) * B). Block i is rows
/// [begin[i], begin[i] + rows[i]), which may be none.
struct RowBlocks {
  std::vector<int64_t> rows, begin;

  /// One block after another from row 0 on.
  static RowBlocks in_order(std::vector<int64_t> rows);
  int64_t total() const;
  /// The rows of all blocks of each of `ranks` ranks.
  std::vector<int64_t> by_rank(int ranks) const;
};

/// A collective that is under way. The communicator outlives it.
class UnderWay {
 public:
  virtual ~UnderWay() = default;

  /// Once: waits until what this rank brings has left and what it gets is in its place. On a GPU
  /// the current stream waits, the host does not.
  virtual void wait() = 0;
};

/// One that is over when it has begun.
class Over final : public UnderWay {
 public:
  void wait() override {}
};

/// A fixed set of ranks that communicate. Every method is collective: each rank
/// of the communicator must call it, in the same order, with zero rows too.
///
/// Tensors are contiguous and of dtype float32, bfloat16, int32, int64, uint8 or
/// float64, in host memory or, in a run on GPUs, on this rank's: all of a call's in one
/// place, the same on every rank. On a GPU a call's work is done in the order of the current
/// stream, for which the host may not wait. `purpose` ("gradients of experts", "dispatch in
/// layer 7") is told when a call fails. Counts beyond INT_MAX elements go in rounds. Throws
/// CommError when the fabric reports an error, c10::Error on a broken contract.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// "world", "expert parallel", "expert data parallel": for messages.
  const std::string& name() const { return name_; }

  /// Wall time that this rank has spent inside collectives since the start, waiting
  /// for the others included.
  double milliseconds() const { return milliseconds_; }

  /// Bytes of rows that this rank has sent to other ranks in all-to-alls since the start.
  int64_t exchanged_bytes() const { return exchanged_bytes_; }

  /// Notes this communicator's collectives in `record` from now on, whose world ranks
  /// are `members`. The record must outlive it. Local.
  void note_in(FlightRecord& record, Members members);

  /// In place. bfloat16 is summed in float32, pair by pair.
  virtual void all_reduce(at::Tensor& x, ReduceOp op, const char* purpose) = 0;

  /// `input` has size() * output.numel() elements; rank r receives the sum over
  /// ranks of the r-th piece. `output` may be that piece of `input` itself.
  virtual void reduce_scatter(const at::Tensor& input, at::Tensor& output, const char* purpose) = 0;

  /// The same with pieces of different lengths: rank r receives the sum of the
  /// next counts[r] elements, which may be none. The counts add up to input.numel()
  /// and are the same on every rank; `output` has counts[rank()] elements and is no
  /// part of `input`.
  virtual void reduce_scatter_uneven(const at::Tensor& input, const std::vector<int64_t>& counts,
                                     at::Tensor& output, const char* purpose) = 0;

  /// `output` has size() * input.numel() elements, in rank order. `input` may be
  /// this rank's piece of `output` itself.
  virtual void all_gather(const at::Tensor& input, at::Tensor& output, const char* purpose) = 0;

  /// In place, from `root`.
  virtual void broadcast(at::Tensor& x, int root, const char* purpose) = 0;

  /// Rows of `input` (S, D...) go to the ranks in rank order, send_rows[r] of
  /// them to rank r; returns (sum of recv_rows, D...), in rank order of the
  /// senders. Both sides know the counts: recv_rows[r] here is send_rows[me] there;
  /// where they are not, the receiver throws a CommError that names the two.
  at::Tensor all_to_all(const at::Tensor& input, const std::vector<int64_t>& send_rows,
                        const std::vector<int64_t>& recv_rows, const char* purpose);

  /// Begins an all-to-all from places of `input` (S, D...) to places of `output` (R, D...), of
  /// one dtype: block b of `send` for a rank arrives there in block b of `recv` for this one.
  /// Both sides know the counts; where they do not agree, `wait` throws a CommError that names the
  /// two ranks, but on GPUs, where nobody sees it. The tensors are left alone until then. Several
  /// may be under way, begun in the same order on every rank and waited for in any. Each rank waits
  /// for all that it began: rows may move only while both of their ranks are inside of calls.
  virtual std::unique_ptr<UnderWay> start_all_to_all(const at::Tensor& input, const RowBlocks& send,
                                                     at::Tensor& output, const RowBlocks& recv,
                                                     const char* purpose) = 0;

  // Begin others of the above; the tensors are left alone until `wait`. Whatever is under way was
  // begun in the same order on every rank. Here the call is over when it has begun, as MPI needs a
  // rank's own time for it; NCCL's go on beside what the current stream does.

  /// all_reduce, begun.
  virtual std::unique_ptr<UnderWay> start_all_reduce(at::Tensor& x, ReduceOp op,
                                                     const char* purpose);

  /// reduce_scatter_uneven, begun; `output` may be this rank's piece of `input` itself.
  virtual std::unique_ptr<UnderWay> start_reduce_scatter_uneven(const at::Tensor& input,
                                                                const std::vector<int64_t>& counts,
                                                                at::Tensor& output,
                                                                const char* purpose);

  /// An all-gather of pieces of different lengths, in place: the next counts[r] elements of x (N)
  /// are rank r's, which may be none, and go to all. The counts add up to N and are the same on
  /// every rank. By default one broadcast for each rank that has a piece.
  virtual std::unique_ptr<UnderWay> start_all_gather_uneven(at::Tensor& x,
                                                            const std::vector<int64_t>& counts,
                                                            const char* purpose);

  /// Of the hosts: what their GPUs have to do goes on.
  virtual void barrier(const char* purpose) = 0;

  /// Ends what is under way on this rank's GPU, which may wait for ranks that are not coming,
  /// before the process ends: other calls do not come back. Any thread, once. Local.
  virtual void abort() {}

 protected:
  Communicator(int rank, int size, std::string name)
      : rank_(rank), size_(size), name_(std::move(name)) {}

  /// The scope of one collective, for implementations: it is timed, and noted in the
  /// flight record if there is one.
  ///
  ///   op     "all-to-all", as messages call it
  ///   bytes  this rank brings; what it gets in a broadcast
  ///
  /// Between `step_out` and `step_in` it is under way while this rank does something else:
  /// that time does not count.
  class Collective {
   public:
    Collective(Communicator& communicator, const char* op, const char* purpose, int64_t bytes,
               const FlightRecord::Rows* rows = nullptr);
    ~Collective();
    Collective(const Collective&) = delete;
    Collective& operator=(const Collective&) = delete;

    void step_out();
    void step_in();

   private:
    using Clock = std::chrono::steady_clock;
    double since_start() const;

    Communicator& communicator_;
    int64_t ticket_ = 0;
    bool inside_ = true;
    double milliseconds_ = 0;  // inside, before start_
    Clock::time_point start_;
  };

  /// The contract of start_all_to_all; throws c10::Error.
  void check_blocks(const at::Tensor& input, const RowBlocks& send, const at::Tensor& output,
                    const RowBlocks& recv) const;
  /// That of start_all_gather_uneven.
  void check_pieces(const at::Tensor& x, const std::vector<int64_t>& counts) const;

 private:
  int rank_, size_;
  std::string name_;
  double milliseconds_ = 0;
  int64_t exchanged_bytes_ = 0;
  FlightRecord* record_ = nullptr;
  int number_in_record_ = 0;
};

/// `text` of rank `root` on every rank. Collective.
std::string broadcast_text(Communicator& communicator, const std::string& text, int root,
                           const char* purpose);

/// The texts of all ranks, in rank order, on every rank. Collective.
std::vector<std::string> all_gather_text(Communicator& communicator, const std::string& text,
                                         const char* purpose);

}  // namespace switchyard
