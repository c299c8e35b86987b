#include "moe/dispatcher.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "ops/all_to_all.h"
#include "ops/host_copy.h"
#include "ops/region.h"
#include "ops/sort_by_expert.h"

namespace switchyard {
namespace {

using at::Tensor;

constexpr const char *kThere = "dispatch of tokens", *kBack = "return of tokens";

int64_t total(const std::vector<int64_t>& rows) {
  return std::accumulate(rows.begin(), rows.end(), int64_t{0});
}

std::vector<int64_t> begins(const std::vector<int64_t>& rows) {
  std::vector<int64_t> begin(rows.size());
  std::exclusive_scan(rows.begin(), rows.end(), begin.begin(), int64_t{0});
  return begin;
}

std::vector<int64_t> to_vector(const Tensor& x) {
  return {x.data_ptr<int64_t>(), x.data_ptr<int64_t>() + x.numel()};
}

/// Places in the order (local expert, sender) of blocks (sender, local expert).
RowBlocks by_expert(const std::vector<int64_t>& rows_PL, const std::vector<int64_t>& rows_L) {
  RowBlocks blocks{rows_PL, std::vector<int64_t>(rows_PL.size())};
  std::vector<int64_t> next_L = begins(rows_L);
  for (size_t i = 0; i < rows_PL.size(); ++i) {
    int64_t& next = next_L[i % rows_L.size()];
    blocks.begin[i] = next;
    next += rows_PL[i];
  }
  return blocks;
}

/// The blocks of local experts [first, last) of L, `from` rows further on.
RowBlocks of_experts(const RowBlocks& blocks_PL, int64_t L, int64_t first, int64_t last,
                     int64_t from) {
  RowBlocks some;
  for (int64_t i = 0; i < static_cast<int64_t>(blocks_PL.rows.size()); ++i) {
    if (i % L < first || i % L >= last) continue;
    some.rows.push_back(blocks_PL.rows[i]);
    some.begin.push_back(blocks_PL.begin[i] - from);
  }
  return some;
}

/// Experts may be frozen on this rank alone: it enters the exchange of gradients all the same.
Tensor with_gradient(const Tensor& y_RD) {
  if (!c10::GradMode::is_enabled() || y_RD.requires_grad()) return y_RD;
  return y_RD.detach().set_requires_grad(true);
}

}  // namespace

Dispatcher::Dispatcher(Communicator& group, int64_t num_experts, int64_t overlap_chunks)
    : group_(group),
      num_experts_(num_experts),
      chunks_(group.size() == 1 ? 1 : std::min(overlap_chunks, num_experts / group.size())) {
  TORCH_CHECK(num_experts % group.size() == 0, num_experts, " experts over ", group.size(),
              " ranks");
}

Dispatched Dispatcher::order(const Tensor& experts_TK, const Tensor& kept_TK) const {
  Dispatched sent;
  const SortedPairs sorted = sort_by_expert(experts_TK, kept_TK, num_experts_);
  if (group_.size() == 1) {
    sent.rows_L = to_vector(HostCopy(sorted.rows_E).wait());
    sent.map = sorted.map(total(sent.rows_L));
  } else {
    exchange_counts(sorted.rows_E, sent);
    sent.map = sorted.map(total(sent.send.rows));
    if (chunks_ > 1) cut(sent);
  }
  return sent;
}

Tensor Dispatcher::send(const Tensor& x_TD, const Dispatched& sent) const {
  const Tensor send_SD = gather_tokens(x_TD, sent.map);
  if (group_.size() == 1) return send_SD;
  return all_to_all_rows(send_SD, sent.send, sent.recv, group_, kThere);
}

void Dispatcher::exchange_counts(const Tensor& rows_E, Dispatched& sent) const {
  const int64_t P = group_.size();
  const std::vector<int64_t> one_row_each(P, 1);
  const Tensor received_PL =
      group_.all_to_all(rows_E.view({P, -1}), one_row_each, one_row_each, "counts of tokens");
  // Of both at once: the host waits for a device once.
  const Tensor counts_2E = HostCopy(at::stack({rows_E, received_PL.flatten()})).wait();
  sent.rows_L = to_vector(counts_2E[1].view({P, -1}).sum(/*dim=*/0));
  sent.send = RowBlocks::in_order(to_vector(counts_2E[0]));
  sent.recv = by_expert(to_vector(counts_2E[1]), sent.rows_L);
}

void Dispatcher::cut(Dispatched& sent) const {
  const auto L = static_cast<int64_t>(sent.rows_L.size());
  const std::vector<int64_t> begin_L = begins(sent.rows_L);
  for (int64_t c = 0; c < chunks_; ++c) {
    const int64_t first = c * L / chunks_, last = (c + 1) * L / chunks_;
    DispatchedChunk& chunk = sent.chunks.emplace_back();
    chunk.rows_L.resize(L);
    std::copy(sent.rows_L.begin() + first, sent.rows_L.begin() + last,
              chunk.rows_L.begin() + first);
    chunk.first_row = begin_L[first];
    chunk.places = {of_experts(sent.send, L, first, last, /*from=*/0),
                    of_experts(sent.recv, L, first, last, chunk.first_row)};
  }
}

Tensor Dispatcher::send_ids(const Tensor& ids_TK, const Dispatched& sent) const {
  const Tensor of_rows_S = ids_TK.flatten().index_select(0, sent.map.pair_S);
  if (group_.size() == 1) return of_rows_S;
  Tensor arrived_R = at::empty({sent.recv.total()}, of_rows_S.options());
  group_.start_all_to_all(of_rows_S, sent.send, arrived_R, sent.recv, "ids of tokens")->wait();
  return arrived_R;
}

Tensor Dispatcher::combine(const Tensor& y_RD, const Dispatched& sent, const Tensor& weights_TK,
                           const Tensor& value_scale_TK) const {
  const Tensor y_SD = group_.size() == 1 ? y_RD
                                         : all_to_all_rows(with_gradient(y_RD), sent.recv,
                                                           sent.send, group_, kBack);
  return combine_tokens(y_SD, weights_TK, sent.map, value_scale_TK);
}

Tensor Dispatcher::apply(const ExpertRows& experts, const Tensor& x_TD, const Dispatched& sent,
                         const Tensor& weights_TK, const Tensor& value_scale_TK,
                         const std::function<void()>& beside) const {
  Region part("dispatch");
  const bool is_plain = sent.chunks.empty() && (!beside || group_.size() == 1);
  if (!is_plain) {
    const std::vector<DispatchedChunk> whole = {{sent.rows_L, 0, {sent.send, sent.recv}}};
    const Tensor y_SD = returned_in_chunks(experts, gather_tokens(x_TD, sent.map),
                                           sent.chunks.empty() ? whole : sent.chunks, beside);
    part.next("combine");
    return combine_tokens(y_SD, weights_TK, sent.map, value_scale_TK);
  }
  const Tensor rows_RD = send(x_TD, sent);
  if (beside) beside();
  part.next("experts");
  const Tensor y_RD = experts(rows_RD, sent.rows_L, /*first_row=*/0);
  part.next("combine");
  return combine(y_RD, sent, weights_TK, value_scale_TK);
}

Tensor Dispatcher::returned_in_chunks(const ExpertRows& experts, const Tensor& send_SD,
                                      const std::vector<DispatchedChunk>& chunks,
                                      const std::function<void()>& beside) const {
  std::vector<ChunkBlocks> places;
  for (const DispatchedChunk& chunk : chunks) places.push_back(chunk.places);
  ScatteredRows arriving(send_SD, places, group_, kThere);
  if (beside) beside();
  GatheredRows returning(places, group_, kBack);
  for (size_t c = 0; c < chunks.size(); ++c) {
    Region part("dispatch");
    const Tensor rows_RD = arriving.wait(c);
    part.next("experts");
    const Tensor y_RD = experts(rows_RD, chunks[c].rows_L, chunks[c].first_row);
    part.next("combine");
    returning.send(c, with_gradient(y_RD));
  }
  const Region part("combine");
  return returning.wait();
}

}  // namespace switchyard
