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

std::vector<int64_t> filled_up(std::vector<int64_t> rows, int64_t multiple) {
  for (int64_t& n : rows) n = (n + multiple - 1) / multiple * multiple;
  return rows;
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

/// ids[index[i]], or -1 where the index is -1.
Tensor pick_ids(const Tensor& ids, const Tensor& index) {
  if (ids.numel() == 0) return at::full(index.sizes(), -1, at::kLong);
  return at::where(index < 0, -1, ids.index_select(0, index.clamp_min(0)));
}

/// Stable counting sort of the kept pairs by expert into a buffer that has
/// `space_E` rows for each.
RowMap sort_by_expert(const Tensor& experts_TK, const Tensor& kept_TK,
                      const std::vector<int64_t>& space_E) {
  std::vector<int64_t> next = begins(space_E);
  RowMap map{at::full({total(space_E)}, -1, at::kLong),
             at::full(experts_TK.sizes(), -1, at::kLong)};
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

/// Arrival order is (sender, local expert); expert order is (local expert, sender),
/// with `rows_L` rows of space for each expert. received_PL holds the rows of each
/// block. Fills both directions.
void order_blocks(const Tensor& received_PL, Dispatched& sent) {
  const int64_t P = received_PL.size(0), L = received_PL.size(1);
  const std::vector<int64_t> rows_PL = to_vector(received_PL), arrival_begin = begins(rows_PL),
                             expert_begin = begins(sent.rows_L);
  sent.to_expert_order_R = at::full({total(sent.rows_L)}, -1, at::kLong);
  sent.to_arrival_order_A = at::empty({total(rows_PL)}, at::kLong);
  int64_t *expert_order = sent.to_expert_order_R.data_ptr<int64_t>(),
          *arrival_order = sent.to_arrival_order_A.data_ptr<int64_t>();
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

int64_t expert_row_multiple(at::ScalarType dtype) { return dtype == at::kBFloat16 ? 32 : 1; }

Dispatcher::Dispatcher(Communicator& group, int64_t num_experts)
    : group_(group), num_experts_(num_experts) {
  TORCH_CHECK(num_experts % group.size() == 0, num_experts, " experts over ", group.size(),
              " ranks");
}

Dispatched Dispatcher::dispatch(const Tensor& x_TD, const Tensor& experts_TK,
                                const Tensor& kept_TK) const {
  Dispatched sent;
  const std::vector<int64_t> rows_E = count_rows(experts_TK, kept_TK, num_experts_);
  const int64_t multiple = expert_row_multiple(x_TD.scalar_type());
  if (group_.size() == 1) {
    sent.rows_L = filled_up(rows_E, multiple);
    sent.map = sort_by_expert(experts_TK, kept_TK, sent.rows_L);
    sent.rows_RD = gather_tokens(x_TD, sent.map);
    return sent;
  }
  sent.map = sort_by_expert(experts_TK, kept_TK, rows_E);
  exchange_counts(rows_E, multiple, sent);
  const Tensor arrived_AD = all_to_all_rows(gather_tokens(x_TD, sent.map), sent.send_rows,
                                            sent.recv_rows, group_, "dispatch of tokens");
  sent.rows_RD = reorder_rows(arrived_AD, sent.to_expert_order_R, sent.to_arrival_order_A);
  return sent;
}

void Dispatcher::exchange_counts(const std::vector<int64_t>& rows_E, int64_t multiple,
                                 Dispatched& sent) const {
  const int64_t P = group_.size();
  const Tensor to_send_PL = at::tensor(rows_E, at::kLong).view({P, -1});
  const std::vector<int64_t> one_row_each(P, 1);
  const Tensor received_PL =
      group_.all_to_all(to_send_PL, one_row_each, one_row_each, "counts of tokens");
  sent.send_rows = to_vector(to_send_PL.sum(/*dim=*/1));
  sent.recv_rows = to_vector(received_PL.sum(/*dim=*/1));
  sent.rows_L = filled_up(to_vector(received_PL.sum(/*dim=*/0)), multiple);
  order_blocks(received_PL, sent);
}

Tensor Dispatcher::send_ids(const Tensor& ids_TK, const Dispatched& sent) const {
  const Tensor of_rows_S = pick_ids(ids_TK.flatten(), sent.map.pair_S);
  if (group_.size() == 1) return of_rows_S;
  const Tensor arrived_A =
      group_.all_to_all(of_rows_S.unsqueeze(1), sent.send_rows, sent.recv_rows, "ids of tokens")
          .squeeze(1);
  return pick_ids(arrived_A, sent.to_expert_order_R);
}

Tensor Dispatcher::combine(const Tensor& y_RD, const Dispatched& sent, const Tensor& weights_TK,
                           const Tensor& value_scale_TK) const {
  if (group_.size() == 1) return combine_tokens(y_RD, weights_TK, sent.map, value_scale_TK);
  Tensor returned_AD = reorder_rows(y_RD, sent.to_arrival_order_A, sent.to_expert_order_R);
  // Experts may be frozen on this rank alone: it enters the exchange of gradients all the same.
  if (c10::GradMode::is_enabled() && !returned_AD.requires_grad()) {
    returned_AD = returned_AD.detach().set_requires_grad(true);
  }
  const Tensor y_SD =
      all_to_all_rows(returned_AD, sent.recv_rows, sent.send_rows, group_, "return of tokens");
  return combine_tokens(y_SD, weights_TK, sent.map, value_scale_TK);
}

}  // namespace switchyard
