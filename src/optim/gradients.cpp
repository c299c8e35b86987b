#include "optim/gradients.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/host_copy.h"

namespace switchyard {
namespace {

double sum_of_squares(const float* x, int64_t count) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) sum += static_cast<double>(x[i]) * x[i];
  return sum;
}

/// On x's device, a piece at a time, so that little of it is there in float64.
at::Tensor sum_of_squares_there(const at::Tensor& x) {
  constexpr int64_t kPiece = 1 << 24;
  at::Tensor sum = at::zeros({}, x.options().dtype(at::kDouble));
  for (int64_t first = 0; first < x.numel(); first += kPiece) {
    const at::Tensor piece = x.narrow(0, first, std::min(kPiece, x.numel() - first));
    sum.add_(piece.to(at::kDouble).square_().sum());
  }
  return sum;
}

/// In float64, in fixed pieces so that threads do not change it: a scalar on x's device.
at::Tensor sum_of_squares(const at::Tensor& x) {
  if (!x.is_cpu()) return sum_of_squares_there(x);
  constexpr int64_t kPiece = 1 << 15;
  const int64_t pieces = (x.numel() + kPiece - 1) / kPiece;
  std::vector<double> partial(pieces);
  at::parallel_for(0, pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t first = p * kPiece;
      partial[p] = sum_of_squares(x.data_ptr<float>() + first, std::min(kPiece, x.numel() - first));
    }
  });
  return at::scalar_tensor(std::accumulate(partial.begin(), partial.end(), 0.0), at::kDouble);
}

}  // namespace

void clear_frozen_gradients(const ParameterStore& store, ParameterStore::Buffer& buffer,
                            Interval range) {
  for (const PlacedPart& placed : store.parts()) {
    if (!placed.rule.frozen || placed.kind != buffer.kind) continue;
    const Interval held = intersect(intersect(placed.range, range), buffer.gradient);
    if (held.empty()) continue;
    buffer.gradients.narrow(0, held.begin - buffer.gradient.begin, held.size()).zero_();
  }
}

const char* reduction_purpose(ParameterKind kind) {
  return kind == ParameterKind::kDense ? "gradients of dense parameters" : "gradients of experts";
}

void finish_sharded_gradients(ParameterStore& store) {
  store.wait_for_gradients();
  for (ParameterStore::Buffer& buffer : store.buffers())
    if (buffer.shards_gradients()) clear_frozen_gradients(store, buffer, buffer.gradient);
}

void reduce_gradients(ParameterStore& store) {
  finish_sharded_gradients(store);
  for (ParameterStore::Buffer& buffer : store.buffers()) {
    if (buffer.shards_gradients()) continue;
    clear_frozen_gradients(store, buffer, buffer.gradient);
    const char* purpose = reduction_purpose(buffer.kind);
    if (!buffer.is_partitioned()) {
      buffer.group->all_reduce(buffer.gradients, ReduceOp::kSum, purpose);
    } else {
      at::Tensor own = buffer.gradients.narrow(0, buffer.shard.begin, buffer.shard.size());
      buffer.group->reduce_scatter(buffer.gradients, own, purpose);
    }
  }
}

GradientNorms gradient_norms(const ParameterStore& store, Communicator& world) {
  std::vector<at::Tensor> sums(2);  // dense, expert
  for (const ParameterStore::Buffer& buffer : store.buffers()) {
    const int kind = buffer.kind == ParameterKind::kDense ? 0 : 1;
    sums[kind] = sum_of_squares(buffer.gradients.narrow(
        0, buffer.shard.begin - buffer.gradient.begin, buffer.shard.size()));
  }
  at::Tensor squares = HostCopy(at::stack(sums)).wait();
  world.all_reduce(squares, ReduceOp::kSum, "gradient norm");
  const double dense = squares[0].item<double>(), expert = squares[1].item<double>();
  return {std::sqrt(dense + expert), std::sqrt(dense), std::sqrt(expert)};
}

double clip_coefficient(double norm, double max_norm) {
  return max_norm > 0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1.0;
}

}  // namespace switchyard
