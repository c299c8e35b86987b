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

}  // namespace

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
  const double ms = std::chrono::duration<double, std::milli>(Clock::now() - start_).count();
  communicator_.milliseconds_ += ms;
  if (communicator_.record_ != nullptr) communicator_.record_->leave(ticket_, ms);
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
