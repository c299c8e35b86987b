#include "distributed/communicator.h"

#include <ATen/ATen.h>

#include <numeric>

namespace switchyard {
namespace {

at::Tensor to_bytes(const std::string& text) {
  at::Tensor bytes = at::empty({static_cast<int64_t>(text.size())}, at::kByte);
  std::copy(text.begin(), text.end(), bytes.data_ptr<uint8_t>());
  return bytes;
}

std::string to_text(const at::Tensor& bytes, int64_t begin, int64_t size) {
  const auto* data = reinterpret_cast<const char*>(bytes.data_ptr<uint8_t>());
  return {data + begin, static_cast<size_t>(size)};
}

/// The part of `bytes` whose rows do not stay on `rank`.
int64_t sent_away(const FlightRecord::Rows& rows, int rank, int64_t bytes) {
  const int64_t all = std::accumulate(rows.to.begin(), rows.to.end(), int64_t{0});
  return all == 0 ? 0 : bytes / all * (all - rows.to.at(rank));
}

void check_side(const at::Tensor& x, const RowBlocks& blocks, int ranks) {
  const size_t count = blocks.rows.size();
  TORCH_CHECK(x.dim() >= 1 && x.is_contiguous() && count == blocks.begin.size() &&
                  count % static_cast<size_t>(ranks) == 0,
              "all-to-all: ", count, " blocks of ", x.sizes(), " over ", ranks, " ranks");
  for (size_t i = 0; i < count; ++i) {
    TORCH_CHECK(blocks.rows[i] >= 0 && blocks.begin[i] >= 0 &&
                    blocks.begin[i] + blocks.rows[i] <= x.size(0),
                "all-to-all: a block of ", blocks.rows[i], " rows from row ", blocks.begin[i],
                " on of ", x.sizes());
  }
}

}  // namespace

RowBlocks RowBlocks::in_order(std::vector<int64_t> rows) {
  std::vector<int64_t> begin(rows.size());
  std::exclusive_scan(rows.begin(), rows.end(), begin.begin(), int64_t{0});
  return {std::move(rows), std::move(begin)};
}

std::vector<int64_t> RowBlocks::by_rank(int ranks) const {
  std::vector<int64_t> sums(ranks, 0);
  const size_t per_rank = rows.size() / sums.size();
  for (size_t i = 0; i < rows.size(); ++i) sums[i / per_rank] += rows[i];
  return sums;
}

int64_t RowBlocks::total() const { return std::accumulate(rows.begin(), rows.end(), int64_t{0}); }

at::Tensor Communicator::all_to_all(const at::Tensor& input, const std::vector<int64_t>& send_rows,
                                    const std::vector<int64_t>& recv_rows, const char* purpose) {
  const RowBlocks send = RowBlocks::in_order(send_rows), recv = RowBlocks::in_order(recv_rows);
  const auto ranks = static_cast<size_t>(size());
  TORCH_CHECK(input.dim() >= 1 && send_rows.size() == ranks && recv_rows.size() == ranks &&
                  send.total() == input.size(0),
              "all_to_all: ", send_rows.size(), " send counts that sum to ", send.total(), " for ",
              input.sizes(), " over ", size(), " ranks");
  std::vector<int64_t> shape = input.sizes().vec();
  shape[0] = recv.total();
  at::Tensor output = at::empty(shape, input.options());
  start_all_to_all(input, send, output, recv, purpose)->wait();
  return output;
}

std::unique_ptr<UnderWay> Communicator::start_all_reduce(at::Tensor& x, ReduceOp op,
                                                         const char* purpose) {
  all_reduce(x, op, purpose);
  return std::make_unique<Over>();
}

std::unique_ptr<UnderWay> Communicator::start_reduce_scatter_uneven(
    const at::Tensor& input, const std::vector<int64_t>& counts, at::Tensor& output,
    const char* purpose) {
  at::Tensor apart = output.is_alias_of(input) ? at::empty_like(output) : output;
  reduce_scatter_uneven(input, counts, apart, purpose);
  if (!apart.is_same(output)) output.copy_(apart);
  return std::make_unique<Over>();
}

std::unique_ptr<UnderWay> Communicator::start_all_gather_uneven(at::Tensor& x,
                                                                const std::vector<int64_t>& counts,
                                                                const char* purpose) {
  check_pieces(x, counts);
  int64_t begin = 0;
  for (int root = 0; root < size(); begin += counts[root++]) {
    if (counts[root] == 0) continue;
    at::Tensor piece = x.narrow(0, begin, counts[root]);
    broadcast(piece, root, purpose);
  }
  return std::make_unique<Over>();
}

void Communicator::check_pieces(const at::Tensor& x, const std::vector<int64_t>& counts) const {
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  TORCH_CHECK(x.dim() == 1 && x.is_contiguous() && static_cast<int>(counts.size()) == size() &&
                  total == x.numel(),
              "all_gather: ", counts.size(), " pieces of ", total, " elements in all in ",
              x.sizes(), " over ", size(), " ranks");
}

void Communicator::check_blocks(const at::Tensor& input, const RowBlocks& send,
                                const at::Tensor& output, const RowBlocks& recv) const {
  check_side(input, send, size());
  check_side(output, recv, size());
  TORCH_CHECK(send.rows.size() == recv.rows.size() && input.dtype() == output.dtype() &&
                  input.sizes().slice(1) == output.sizes().slice(1),
              "all-to-all: ", send.rows.size(), " blocks of ", input.sizes(), " into ",
              recv.rows.size(), " of ", output.sizes());
}

void Communicator::note_in(FlightRecord& record, Members members) {
  record_ = &record;
  number_in_record_ = record.add_communicator(name_, members);
}

Communicator::Collective::Collective(Communicator& communicator, const char* op,
                                     const char* purpose, int64_t bytes,
                                     const FlightRecord::Rows* rows)
    : communicator_(communicator), start_(Clock::now()) {
  if (rows != nullptr)
    communicator.exchanged_bytes_ += sent_away(*rows, communicator.rank(), bytes);
  FlightRecord* record = communicator.record_;
  if (record == nullptr) return;
  ticket_ = record->enter(communicator.number_in_record_, op, purpose, bytes, rows);
}

Communicator::Collective::~Collective() {
  if (inside_) milliseconds_ += since_start();
  communicator_.milliseconds_ += milliseconds_;
  if (communicator_.record_ != nullptr) communicator_.record_->leave(ticket_, milliseconds_);
}

void Communicator::Collective::step_out() {
  milliseconds_ += since_start();
  inside_ = false;
  if (communicator_.record_ != nullptr) communicator_.record_->step_out(ticket_);
}

void Communicator::Collective::step_in() {
  start_ = Clock::now();
  inside_ = true;
  if (communicator_.record_ != nullptr) communicator_.record_->step_in(ticket_);
}

double Communicator::Collective::since_start() const {
  return std::chrono::duration<double, std::milli>(Clock::now() - start_).count();
}

std::string broadcast_text(Communicator& communicator, const std::string& text, int root,
                           const char* purpose) {
  at::Tensor size = at::full({1}, static_cast<int64_t>(text.size()), at::kLong);
  communicator.broadcast(size, root, purpose);
  at::Tensor bytes =
      communicator.rank() == root ? to_bytes(text) : at::empty({size.item<int64_t>()}, at::kByte);
  communicator.broadcast(bytes, root, purpose);
  return to_text(bytes, 0, bytes.numel());
}

std::vector<std::string> all_gather_text(Communicator& communicator, const std::string& text,
                                         const char* purpose) {
  at::Tensor sizes = at::empty({communicator.size()}, at::kLong);
  communicator.all_gather(at::full({1}, static_cast<int64_t>(text.size()), at::kLong), sizes,
                          purpose);
  const int64_t longest = sizes.max().item<int64_t>();
  at::Tensor padded = at::zeros({longest}, at::kByte);
  std::copy(text.begin(), text.end(), padded.data_ptr<uint8_t>());
  at::Tensor all = at::empty({communicator.size() * longest}, at::kByte);
  communicator.all_gather(padded, all, purpose);
  std::vector<std::string> texts;
  for (int r = 0; r < communicator.size(); ++r) {
    texts.push_back(to_text(all, r * longest, sizes[r].item<int64_t>()));
  }
  return texts;
}

}  // namespace switchyard
