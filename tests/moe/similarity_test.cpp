#include "moe/similarity.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "moe/sample_moe.h"
#include "support/mpi_main.h"
#include "support/tensors.h"

// Runs at W = 1, 2, 4, 8: the E experts of a test are shared out to the ranks of the world.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kExperts = 8;

/// This rank's experts of a matrix that is made whole on every rank.
ExpertMatrix share_of(const std::string& name, const Tensor& x_EFD) {
  const int64_t L = x_EFD.size(0) / test_runtime().world_size();
  return {name, x_EFD.narrow(0, test_runtime().rank() * L, L)};
}

ExpertSimilarity similarity_of(const std::vector<std::pair<std::string, Tensor>>& whole) {
  const Mesh mesh = test_runtime().make_mesh({test_runtime().world_size(), "expert_inner"});
  std::vector<ExpertMatrix> matrices;
  for (const auto& [name, x_EFD] : whole) matrices.push_back(share_of(name, x_EFD));
  return expert_similarity(matrices, *mesh.expert);
}

double cosine(const Tensor& a, const Tensor& b) {
  const double lengths = (a.norm() * b.norm()).item<double>();
  return lengths == 0 ? 0 : (a * b).sum().item<double>() / lengths;
}

/// The mean over ordered pairs of different i, j below n, one after the other.
template <typename Value>
double mean_over_pairs(int64_t n, const Value& value) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) sum += i == j ? 0.0 : value(i, j);
  }
  return sum / static_cast<double>(n * (n - 1));
}

TEST(SimilarityTest, P10_IdenticalExpertsHaveCosine1) {
  const auto copies = [](const char* name) {
    return normal_tensor({1, 5, 6}, name).expand({kExperts, 5, 6}).contiguous();
  };
  const ExpertSimilarity similarity =
      similarity_of({{"up_proj", copies("up")}, {"down_proj", copies("down")}});
  EXPECT_NEAR(similarity.experts.value(), 1.0, 1e-12);
  ASSERT_EQ(similarity.matrices.size(), 2U);
  for (const MatrixSimilarity& matrix : similarity.matrices) {
    EXPECT_NEAR(matrix.experts.value(), 1.0, 1e-12);
    EXPECT_NEAR(matrix.mean_neurons.value(), 1.0, 1e-12);
    EXPECT_NEAR(matrix.between_experts.value(), 1.0, 1e-12);
    EXPECT_LT(std::abs(matrix.within_experts.value()), 0.5);
  }
}

TEST(SimilarityTest, P10_OrthogonalExpertsHaveCosine0) {
  // Expert e has weights in dimension e alone; its neurons are multiples of one another.
  Tensor x_EFD = at::zeros({kExperts, 3, kExperts});
  for (int64_t e = 0; e < kExperts; ++e) x_EFD.select(0, e).select(1, e).copy_(at::arange(1, 4));
  const MatrixSimilarity matrix = similarity_of({{"up_proj", x_EFD}}).matrices.at(0);
  EXPECT_NEAR(matrix.experts.value(), 0.0, 1e-12);
  EXPECT_NEAR(matrix.mean_neurons.value(), 0.0, 1e-12);
  EXPECT_NEAR(matrix.between_experts.value(), 0.0, 1e-12);
  EXPECT_NEAR(matrix.within_experts.value(), 1.0, 1e-12);
}

TEST(SimilarityTest, P10_OppositeExpertsHaveTheLeastMean) {
  Tensor x_EFD = normal_tensor({1, 4, 3}, "one").expand({kExperts, 4, 3}).contiguous();
  for (int64_t e = 0; e < kExperts; e += 2) x_EFD.select(0, e).mul_(-3);
  // Of the pairs 3 / 7 point the same way: 3/7 - 4/7.
  EXPECT_NEAR(similarity_of({{"up_proj", x_EFD}}).experts.value(), -1.0 / 7, 1e-12);
}

/// Random experts that have a part in common, some neurons and one expert of zeros, against
/// loops over all pairs.
TEST(SimilarityTest, P10_SumsOfUnitVectorsGiveTheMeanOfAllPairs) {
  const int64_t F = 5, D = 4;
  std::vector<std::pair<std::string, Tensor>> whole;
  for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
    Tensor x_EFD = normal_tensor({kExperts, F, D}, name) + normal_tensor({1, F, D}, "common");
    x_EFD.select(0, 3).zero_();
    x_EFD.select(0, 5).select(0, 1).zero_();
    whole.emplace_back(name, x_EFD);
  }
  const ExpertSimilarity similarity = similarity_of(whole);
  const auto vector_of = [&](int64_t e) {
    return at::cat(
        {whole[0].second[e].flatten(), whole[1].second[e].flatten(), whole[2].second[e].flatten()});
  };
  EXPECT_NEAR(
      similarity.experts.value(),
      mean_over_pairs(kExperts,
                      [&](int64_t i, int64_t j) { return cosine(vector_of(i), vector_of(j)); }),
      1e-12);
  for (size_t m = 0; m < whole.size(); ++m) {
    const MatrixSimilarity& matrix = similarity.matrices[m];
    const Tensor& x = whole[m].second;
    EXPECT_EQ(matrix.matrix, whole[m].first);
    EXPECT_NEAR(
        matrix.experts.value(),
        mean_over_pairs(
            kExperts, [&](int64_t i, int64_t j) { return cosine(x[i].flatten(), x[j].flatten()); }),
        1e-12);
    EXPECT_NEAR(
        matrix.mean_neurons.value(),
        mean_over_pairs(kExperts,
                        [&](int64_t i, int64_t j) { return cosine(x[i].mean(0), x[j].mean(0)); }),
        1e-12);
    double between = 0, within = 0;
    for (int64_t f = 0; f < F; ++f) {
      between +=
          mean_over_pairs(kExperts, [&](int64_t i, int64_t j) { return cosine(x[i][f], x[j][f]); });
    }
    for (int64_t e = 0; e < kExperts; ++e) {
      within += mean_over_pairs(F, [&](int64_t f, int64_t g) { return cosine(x[e][f], x[e][g]); });
    }
    EXPECT_NEAR(matrix.between_experts.value(), between / static_cast<double>(F), 1e-12);
    EXPECT_NEAR(matrix.within_experts.value(), within / static_cast<double>(kExperts), 1e-12);
  }
}

TEST(SimilarityTest, P10_RowsOfARouter) {
  const Tensor x_ND = at::tensor({1.0, 0.0, 3.0, 3.0, 0.0, 5.0, 0.0, 0.0}).view({4, 2});
  const RowCosines cosines = row_cosines(x_ND).value();
  const double half = std::sqrt(0.5);
  EXPECT_NEAR(cosines.mean, 4 * half / 12, 1e-12);  // a row of zeros is alike to none
  EXPECT_NEAR(cosines.max, half, 1e-12);
  EXPECT_NEAR(row_cosines(at::ones({3, 2})).value().mean, 1.0, 1e-12);
  EXPECT_NEAR(row_cosines(at::tensor({1.0, -2.0}).view({2, 1})).value().max, -1.0, 1e-12);
  EXPECT_FALSE(row_cosines(at::ones({1, 2})));
}

TEST(SimilarityTest, WithoutPairsThereIsNothing) {
  const Mesh mesh = solo_mesh();
  const ExpertSimilarity one = expert_similarity({{"up_proj", at::ones({1, 1, 3})}}, *mesh.expert);
  EXPECT_FALSE(one.experts || one.matrices[0].experts || one.matrices[0].between_experts ||
               one.matrices[0].within_experts);
}

}  // namespace
}  // namespace switchyard
