#include "moe/similarity.h"

#include <ATen/ATen.h>

#include <algorithm>

// L experts on this rank, E on all, F neurons of each, f of a piece, D model width.

namespace switchyard {
namespace {

using at::Tensor;

/// Elements of a piece of the experts that is held in float64 at once.
constexpr int64_t kPieceElements = int64_t{1} << 22;

/// 1 / norms, and 0 for the norm of nothing.
Tensor inverse_or_zero(const Tensor& norms) {
  return at::where(norms > 0, norms.reciprocal(), 0.0);
}

/// Mean over ordered pairs, of the square of the sum and the number of unit vectors.
std::optional<double> mean_of_pairs(double square, double unit_vectors, double pairs) {
  if (pairs <= 0) return std::nullopt;
  return (square - unit_vectors) / pairs;
}

/// |sum over experts of scaled pieces|^2, over all ranks.
double square_of_sum(Tensor sum, Communicator& group) {
  group.all_reduce(sum, ReduceOp::kSum, "sums of unit vectors");
  return sum.square().sum().item<double>();
}

/// Runs over a matrix in pieces of whole neurons, (L, f, D) in float64.
template <typename Visit>
void for_each_piece(const Tensor& x_LFD, const Visit& visit) {
  const int64_t L = x_LFD.size(0), F = x_LFD.size(1), D = x_LFD.size(2);
  const int64_t step = std::max<int64_t>(1, kPieceElements / std::max<int64_t>(1, L * D));
  for (int64_t f = 0; f < F; f += step) {
    visit(x_LFD.narrow(1, f, std::min(step, F - f)).to(at::kDouble));
  }
}

Tensor squares_of(const Tensor& x_LFD) {
  Tensor squares_L = at::zeros({x_LFD.size(0)}, x_LFD.options().dtype(at::kDouble));
  for_each_piece(x_LFD, [&](const Tensor& x) { squares_L += x.square().sum({1, 2}); });
  return squares_L;
}

/// The squares of sums of unit vectors of one matrix over all experts, and their numbers.
struct MatrixSums {
  double whole = 0;    // with the experts' own norms, over all their matrices
  double experts = 0;  // with the matrix's norms
  double mean_neurons = 0, between = 0, within = 0;
  double unit_experts = 0, unit_means = 0, unit_neurons = 0;
};

MatrixSums sums_of(const Tensor& x_LFD, const Tensor& whole_L, Communicator& group) {
  const int64_t L = x_LFD.size(0), D = x_LFD.size(2);
  const Tensor norms_L = squares_of(x_LFD).sqrt();
  const Tensor by_whole_L11 = inverse_or_zero(whole_L).view({L, 1, 1});
  const Tensor by_matrix_L11 = inverse_or_zero(norms_L).view({L, 1, 1});
  const at::TensorOptions doubles = x_LFD.options().dtype(at::kDouble);
  Tensor means_LD = at::zeros({L, D}, doubles), units_LD = at::zeros({L, D}, doubles);
  MatrixSums sums;
  Tensor neurons = at::zeros({1}, doubles);
  for_each_piece(x_LFD, [&](const Tensor& x_LfD) {
    const Tensor length_Lf1 = x_LfD.square().sum(/*dim=*/2, /*keepdim=*/true).sqrt();
    const Tensor units_LfD = x_LfD * inverse_or_zero(length_Lf1);
    sums.whole += square_of_sum((x_LfD * by_whole_L11).sum(0), group);
    sums.experts += square_of_sum((x_LfD * by_matrix_L11).sum(0), group);
    sums.between += square_of_sum(units_LfD.sum(0), group);
    means_LD += x_LfD.sum(1);
    units_LD += units_LfD.sum(1);
    neurons += (length_Lf1 > 0).sum();
  });
  const Tensor mean_norms_L1 = means_LD.square().sum(1, /*keepdim=*/true).sqrt();
  sums.mean_neurons = square_of_sum((means_LD * inverse_or_zero(mean_norms_L1)).sum(0), group);
  Tensor rest = at::cat({units_LD.square().sum().view({1}), neurons,
                         (norms_L > 0).sum().view({1}).to(at::kDouble),
                         (mean_norms_L1 > 0).sum().view({1}).to(at::kDouble)});
  group.all_reduce(rest, ReduceOp::kSum, "numbers of unit vectors");
  sums.within = rest[0].item<double>();
  sums.unit_neurons = rest[1].item<double>();
  sums.unit_experts = rest[2].item<double>();
  sums.unit_means = rest[3].item<double>();
  return sums;
}

}  // namespace

std::optional<RowCosines> row_cosines(const Tensor& x_ND) {
  const int64_t N = x_ND.size(0);
  if (N < 2) return std::nullopt;
  const Tensor x = x_ND.to(at::kDouble);
  const Tensor units_ND = x * inverse_or_zero(x.square().sum(/*dim=*/1, /*keepdim=*/true).sqrt());
  Tensor cosines_NN = at::matmul(units_ND, units_ND.t());
  const double sum = (cosines_NN.sum() - cosines_NN.diagonal().sum()).item<double>();
  cosines_NN.diagonal().fill_(-2.0);
  return RowCosines{sum / static_cast<double>(N * (N - 1)), cosines_NN.max().item<double>()};
}

ExpertSimilarity expert_similarity(const std::vector<ExpertMatrix>& matrices, Communicator& group) {
  ExpertSimilarity similarity;
  if (matrices.empty()) return similarity;
  const int64_t L = matrices.front().x_LFD.size(0), E = L * group.size();
  const auto pairs = static_cast<double>(E * (E - 1));
  Tensor whole_L = at::zeros({L}, matrices.front().x_LFD.options().dtype(at::kDouble));
  for (const ExpertMatrix& matrix : matrices) whole_L += squares_of(matrix.x_LFD);
  whole_L = whole_L.sqrt();
  double whole = 0;
  for (const ExpertMatrix& matrix : matrices) {
    const auto F = static_cast<double>(matrix.x_LFD.size(1));
    const MatrixSums sums = sums_of(matrix.x_LFD, whole_L, group);
    whole += sums.whole;
    similarity.matrices.push_back(
        {matrix.name, mean_of_pairs(sums.experts, sums.unit_experts, pairs),
         mean_of_pairs(sums.mean_neurons, sums.unit_means, pairs),
         mean_of_pairs(sums.between, sums.unit_neurons, F * pairs),
         mean_of_pairs(sums.within, sums.unit_neurons, static_cast<double>(E) * F * (F - 1))});
  }
  Tensor unit_experts = (whole_L > 0).sum().view({1}).to(at::kDouble);
  group.all_reduce(unit_experts, ReduceOp::kSum, "number of experts that are not zero");
  similarity.experts = mean_of_pairs(whole, unit_experts.item<double>(), pairs);
  return similarity;
}

}  // namespace switchyard
