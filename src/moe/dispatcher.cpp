#include "moe/dispatcher.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <numeric>

#include "ops/all_to_all.h"

namespace switchyard {
namespace {

using at::Tensor;

std::vector<int64_t> count_rows(const Tensor& experts_TK, const Tensor& kept_TK,
                                int64_t num_experts) {
  std::vector<int64_t> rows_E(num_experts, 0);
  const int64_t* experts = experts_TK.data_ptr<int64_t>();
  const bool* kept = kept_TK.data_ptr<bool>();
  for (int64_t pair = 0; pair < experts_TK.numel(); ++pair)
    rows_E[experts[pair]] += kept[pair] ? 1 : 0;
  return rows_E;
}

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

/// Stable counting sort of the kept pairs by expert, rows_E of each.
RowMap sort_by_expert(const Tensor& experts_TK, const Tensor& kept_TK,
                      const std::vector<int64_t>& rows_E) {
  std::vector<int64_t> next = begins(rows_E);
  RowMap map{at::empty({total(rows_E)}, at::kLong), at::full(experts_TK.sizes(), -1, at::kLong)};
  const int64_t* experts = experts_TK.data_ptr<int64_t>();
  const bool* kept = kept_TK.data_ptr<bool>();
  int64_t *pair_of = map.pair_S.data_ptr<int64_t>(), *slot_of = map.slot_TK.data_ptr<int64_t>();
  for (int64_t pair = 0; pair < experts_TK.numel(); ++pair) {
    if (!kept[pair]) continue;
    const int64_t slot = next[experts[pair]]++;
    pair_of[slot] = pair;
    slot_of[pair] = slot;
  }
  return map;
}

/// Arrival order is (sender, local expert); expert order is (local expert, sender).
/// received_PL holds the rows of each block. Fills both directions.
void order_blocks(const Tensor& received_PL, Dispatched& sent) {
  const int64_t P = received_PL.size(0), L = received_PL.size(1);
  const std::vector<int64_t> rows_PL = to_vector(received_PL), arrival_begin = begins(rows_PL),
                             expert_begin = begins(sent.rows_L);
  sent.to_expert_order_R = at::empty({total(rows_PL)}, at::kLong);
  sent.to_arrival_order_R = at::empty({total(rows_PL)}, at::kLong);
  int64_t *expert_order = sent.to_expert_order_R.data_ptr<int64_t>(),
          *arrival_order = sent.to_arrival_order_R.data_ptr<int64_t>();
  for (int64_t l = 0; l < L; ++l) {
    int64_t at = expert_begin[l];
    for (int64_t p = 0; p < P; ++p) {
      for (int64_t i = 0; i < rows_PL[p * L + l]; ++i, ++at) {
        const int64_t from = arrival_begin[p * L + l] + i;
        expert_order[at] = from;
        arrival_order[from] = at;
      }
    }
  }
}

}  // namespace

Dispatcher::Dispatcher(Communicator& group, int64_t num_experts)
    : group_(group), num_experts_(num_experts) {
  TORCH_CHECK(num_experts % group.size() == 0, num_experts, " experts over ", group.size(),
              " ranks");
}

Dispatched Dispatcher::dispatch(const Tensor& x_TD, const Tensor& experts_TK,
                                const Tensor& kept_TK) const {
  Dispatched sent = order(experts_TK, kept_TK);
  sent.rows_RD = send(x_TD, sent);
  return sent;
}

Dispatched Dispatcher::order(const Tensor& experts_TK, const Tensor& kept_TK) const {
  Dispatched sent;
  const std::vector<int64_t> rows_E = count_rows(experts_TK, kept_TK, num_experts_);
  sent.map = sort_by_expert(experts_TK, kept_TK, rows_E);
  if (group_.size() == 1) {
    sent.rows_L = rows_E;
  } else {
    exchange_counts(rows_E, sent);
  }
  return sent;
}

Tensor Dispatcher::send(const Tensor& x_TD, const Dispatched& sent) const {
  if (group_.size() == 1) return gather_tokens(x_TD, sent.map);
  const Tensor arrived_RD = all_to_all_rows(gather_tokens(x_TD, sent.map), sent.send_rows,
                                            sent.recv_rows, group_, "dispatch of tokens");
  return reorder_rows(arrived_RD, sent.to_expert_order_R, sent.to_arrival_order_R);
}

void Dispatcher::exchange_counts(const std::vector<int64_t>& rows_E, Dispatched& sent) const {
  const int64_t P = group_.size();
  const Tensor to_send_PL = at::tensor(rows_E, at::kLong).view({P, -1});
  const std::vector<int64_t> one_row_each(P, 1);
  const Tensor received_PL =
      group_.all_to_all(to_send_PL, one_row_each, one_row_each, "counts of tokens");
  sent.send_rows = to_vector(to_send_PL.sum(/*dim=*/1));
  sent.recv_rows = to_vector(received_PL.sum(/*dim=*/1));
  sent.rows_L = to_vector(received_PL.sum(/*dim=*/0));
  order_blocks(received_PL, sent);
}

Tensor Dispatcher::send_ids(const Tensor& ids_TK, const Dispatched& sent) const {
  const Tensor of_rows_S = ids_TK.flatten().index_select(0, sent.map.pair_S);
  if (group_.size() == 1) return of_rows_S;
  const Tensor arrived_R =
      group_.all_to_all(of_rows_S.unsqueeze(1), sent.send_rows, sent.recv_rows, "ids of tokens")
          .squeeze(1);
  return arrived_R.index_select(0, sent.to_expert_order_R);
}

Tensor Dispatcher::combine(const Tensor& y_RD, const Dispatched& sent, const Tensor& weights_TK,
                           const Tensor& value_scale_TK) const {
  if (group_.size() == 1) return combine_tokens(y_RD, weights_TK, sent.map, value_scale_TK);
  Tensor returned_RD = reorder_rows(y_RD, sent.to_arrival_order_R, sent.to_expert_order_R);
  // Experts may be frozen on this rank alone: it enters the exchange of gradients all the same.
  if (c10::GradMode::is_enabled() && !returned_RD.requires_grad()) {
    returned_RD = returned_RD.detach().set_requires_grad(true);
  }
  const Tensor y_SD =
      all_to_all_rows(returned_RD, sent.recv_rows, sent.send_rows, group_, "return of tokens");
  return combine_tokens(y_SD, weights_TK, sent.map, value_scale_TK);
}

}  // namespace switchyard
