#include "moe/routers/sparse_transport.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "support/tensors.h"

// T tokens, E experts.

namespace switchyard {
namespace {

using at::Tensor;

Tensor leaning(int64_t T, int64_t E) {
  return (normal_tensor({T, E}, "logits") + normal_tensor({E}, "leaning")).softmax(1);
}

Tensor row(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).view({1, -1});
}

TEST(SparseTransportTest, R7_TheProjectionOfKnownVectors) {
  // Onto the simplex: subtract 0.1 from the two largest, the third falls to zero.
  EXPECT_TRUE(near(sparse_simplex(row({0.7, -1, 0.5}), 3), row({0.6, 0, 0.4}), 1e-15));
  // All stay: subtract (1.5 - 1) / 3.
  EXPECT_TRUE(near(sparse_simplex(row({0.5, 0.5, 0.5}), 3), row({1. / 3, 1. / 3, 1. / 3}), 1e-15));
  EXPECT_TRUE(near(sparse_simplex(row({0.5, 0.3, 0.4}), 2), row({0.55, 0, 0.45}), 1e-15));
  EXPECT_TRUE(near(sparse_simplex(row({0.5, 0.3, 0.4}), 1), row({1, 0, 0}), 1e-15));
  EXPECT_TRUE(near(sparse_simplex(row({5, 1, 2}), 3), row({1, 0, 0}), 1e-15));
  // Of equal entries the earlier ones stay.
  EXPECT_TRUE(near(sparse_simplex(row({0.2, 0.2, 0.2}), 2), row({0.5, 0.5, 0}), 1e-15));
  // A point of the simplex stays where it is.
  EXPECT_TRUE(near(sparse_simplex(row({0.2, 0, 0.8}), 2), row({0.2, 0, 0.8}), 1e-15));
}

// Nearest of all points with that support: the best support by trying them all, and on
// a support the threshold by bisection.
TEST(SparseTransportTest, R7_TheProjectionIsTheNearestPoint) {
  for (int64_t i = 0; i < 100; ++i) {
    const int64_t N = 2 + i % 5, k = 1 + i % N;
    const Tensor x_1N = normal_tensor({1, N}, "point " + std::to_string(i));
    double best = 1e9;
    for (int64_t support = 1; support < (int64_t{1} << N); ++support) {
      if (__builtin_popcountll(static_cast<unsigned long long>(support)) > k) continue;
      double low = -20, high = 20;
      const auto entry = [&](int64_t n, double threshold) {
        const bool inside = (support >> n & 1) != 0;
        return inside ? std::max(0.0, x_1N[0][n].item<double>() - threshold) : 0.0;
      };
      for (int step = 0; step < 60; ++step) {
        double sum = 0;
        const double middle = (low + high) / 2;
        for (int64_t n = 0; n < N; ++n) sum += entry(n, middle);
        (sum > 1 ? low : high) = middle;
      }
      double distance = 0;
      for (int64_t n = 0; n < N; ++n) {
        const double off = entry(n, low) - x_1N[0][n].item<double>();
        distance += off * off;
      }
      best = std::min(best, distance);
    }
    const Tensor p_1N = sparse_simplex(x_1N, k);
    EXPECT_NEAR((p_1N - x_1N).square().sum().item<double>(), best, 1e-9) << i;
    EXPECT_NEAR(p_1N.sum().item<double>(), 1, 1e-12);
  }
}

TEST(SparseTransportTest, R7_TheLimitHoldsExactlyAfterAnyIterations) {
  const Tensor S_TE = leaning(48, 8);
  for (const int64_t iterations : {1, 20, 200}) {
    for (const int64_t nonzeros : {1, 3, 6, 8}) {
      TransportOptions options{1.0, iterations, 0.01, TransportLimit::kExpert, nonzeros};
      const Tensor by_expert = sparse_transport(S_TE, options);
      EXPECT_LE((by_expert > 0).sum(0).max().item<int64_t>(), nonzeros);
      EXPECT_TRUE(near(by_expert.sum(0), at::full({8}, 6.0, at::kDouble), 1e-12));
      // Similarities differ by less than gamma b / nonzeros: none is left at zero.
      EXPECT_EQ((by_expert > 0).sum().item<int64_t>(), 8 * nonzeros);
      options.limit = TransportLimit::kToken;
      const Tensor by_token = sparse_transport(S_TE, options);
      EXPECT_LE((by_token > 0).sum(1).max().item<int64_t>(), nonzeros);
      EXPECT_GE((by_token > 0).sum(1).min().item<int64_t>(), 1);
      EXPECT_TRUE(near(by_token.sum(1), at::ones({48}, at::kDouble), 1e-12));
    }
  }
}

double violation(const Tensor& sums, double wanted) {
  return (sums - wanted).abs().sum().item<double>();
}

TEST(SparseTransportTest, R7_TheOtherMarginalComesNearerWithIterations) {
  const Tensor S_TE = leaning(48, 8);
  // Tokens limited to 2 of 8 experts: the experts' sums start from the plain choice.
  double before = 1e9;
  for (const int64_t iterations : {0, 10, 40, 160}) {
    const Tensor plan_TE =
        sparse_transport(S_TE, {1.0, iterations, 0.01, TransportLimit::kToken, 2});
    EXPECT_LT(violation(plan_TE.sum(0), 6), before) << iterations;
    before = violation(plan_TE.sum(0), 6);
  }
  EXPECT_LT(before, 2);
  before = 1e9;
  for (const int64_t iterations : {0, 20, 80}) {
    const Tensor plan_TE =
        sparse_transport(S_TE, {1.0, iterations, 0.01, TransportLimit::kExpert, 12});
    EXPECT_LT(violation(plan_TE.sum(1), 1), before) << iterations;
    before = violation(plan_TE.sum(1), 1);
  }
  EXPECT_LT(before, 8.5);
}

// Without a limit both semi-duals solve the same program.
TEST(SparseTransportTest, R7_BothSidesAgreeWithoutALimit) {
  const Tensor S_TE = leaning(12, 4);
  const Tensor by_expert = sparse_transport(S_TE, {0.5, 3000, 0.003, TransportLimit::kExpert, 12});
  const Tensor by_token = sparse_transport(S_TE, {0.5, 3000, 0.003, TransportLimit::kToken, 4});
  EXPECT_TRUE(near(by_expert, by_token, 1e-3));
  EXPECT_TRUE(near(by_expert.sum(1), at::ones({12}, at::kDouble), 1e-3));
}

TEST(SparseTransportTest, R7_TheGradientIsThatOfTheProjection) {
  for (const TransportLimit limit : {TransportLimit::kExpert, TransportLimit::kToken}) {
    const TransportOptions options{0.3, 0, 0.01, limit, 2};  // potentials stay zero
    const TensorFunction plan = [&](const std::vector<Tensor>& in) {
      return sparse_transport(in[0], options);
    };
    EXPECT_TRUE(gradients_match(plan, {leaning(10, 4)}));
  }
}

TEST(SparseTransportTest, R7_WhatIsNotFiniteBreaksNothing) {
  Tensor S_TE = leaning(12, 4).to(at::kFloat);
  S_TE[3].fill_(NAN);
  for (const TransportLimit limit : {TransportLimit::kExpert, TransportLimit::kToken}) {
    EXPECT_EQ(sparse_transport(S_TE, {1.0, 5, 0.01, limit, 2}).sizes(), S_TE.sizes());
  }
}

}  // namespace
}  // namespace switchyard
