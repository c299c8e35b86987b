#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "distributed/communicator.h"
#include "metrics/routing_summary.h"
#include "moe/experts.h"

namespace switchyard {

// L experts on this rank, F neurons of each, D model width. A vector of zeros has cosine
// 0 with every other.

/// Cosines of all pairs of different rows. Nothing with fewer than two rows.
struct RowCosines {
  double mean = 0, max = 0;
};
std::optional<RowCosines> row_cosines(const at::Tensor& x_ND);

/// How alike the experts of a layer are: Lo et al., "A Closer Look into Mixture-of-Experts
/// in Large Language Models", arXiv:2406.18219.
struct ExpertSimilarity {
  std::optional<double> experts;  // mean cosine of two experts, all matrices as one vector
  std::vector<MatrixSimilarity> matrices;
};

/// The mean cosine over pairs of n vectors follows from the sum of their unit vectors:
///
///   sum over i != j of u_i u_j = |sum_i u_i|^2 - sum_i |u_i|^2
///
/// so ranks exchange sums of the size of a piece of one expert, and no expert. Of the
/// paper's neuron-level similarities these are the mean neuron's and that of neurons of
/// the same index; the best assignment of one expert's neurons to another's, its third,
/// is not computed: it takes F^3 steps for every pair.
///
/// In float64. Every rank of `group` brings the same number of experts, of the same
/// shapes. Collective over `group`.
ExpertSimilarity expert_similarity(const std::vector<ExpertMatrix>& matrices, Communicator& group);

}  // namespace switchyard
