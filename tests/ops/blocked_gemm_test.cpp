#include "ops/blocked_gemm.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

namespace switchyard {
namespace {

// Whole numbers from -8 to 8, which bfloat16 holds, and whose sums float32 holds: a product is
// exact in whatever order it is summed.
int64_t whole(int64_t i, int64_t j) { return (i * 7 + j * 13 + i * j) % 17 - 8; }

template <class scalar_t>
std::vector<scalar_t> whole_numbers(int64_t rows, int64_t columns) {
  std::vector<scalar_t> x;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) x.push_back(static_cast<float>(whole(i, j)));
  }
  return x;
}

/// More rows than a block, deeper than what is multiplied at a time, no multiple of anything.
template <class scalar_t>
void expect_exact_products() {
  const int64_t R = 150, K = 598, N = 90, depth = round_up(K, 32);
  const auto a = whole_numbers<scalar_t>(R, depth);  // what is beyond K meets zeros
  const auto b = whole_numbers<scalar_t>(K, N), b_transposed = whole_numbers<scalar_t>(N, K);
  std::vector<float> c(R * N, 1.0F), c_transposed(R * N, 1.0F);
  Panel<scalar_t> panel;
  panel.reshape(K, N);
  panel.pack({b.data(), K, 32, N});
  panel.pack({b.data() + 32, K, N - 32, N}, 32);
  panel.multiply(a.data(), depth, R, depth, c.data(), N, /*add=*/false);
  panel.pack_transposed({b_transposed.data(), N, K, K});
  panel.multiply(a.data(), depth, R, K, c_transposed.data(), N, /*add=*/false);
  panel.multiply(a.data(), depth, R, K, c_transposed.data(), N, /*add=*/true);
  for (int64_t i = 0; i < R; ++i) {
    for (int64_t j = 0; j < N; ++j) {
      int64_t plain = 0, transposed = 0;
      for (int64_t k = 0; k < K; ++k) {
        plain += whole(i, k) * whole(k, j);
        transposed += whole(i, k) * whole(j, k);
      }
      ASSERT_EQ(c[i * N + j], plain) << i << ", " << j;
      ASSERT_EQ(c_transposed[i * N + j], 2 * transposed) << i << ", " << j;
    }
  }
}

TEST(BlockedGemmTest, ProductsOfWholeNumbersAreExact) {
  expect_exact_products<float>();
  expect_exact_products<at::BFloat16>();
}

// Asked of the compiler's own look at the processor. ops_test.avx2 sets the variable.
TEST(BlockedGemmTest, Bfloat16IsMultipliedWhereTheProcessorDoesUnlessLibTorchIsKeptFromIt) {
  const bool kept_from_it = std::getenv("ATEN_CPU_CAPABILITY") != nullptr;
  EXPECT_EQ(multiplies_bfloat16(), !kept_from_it && __builtin_cpu_supports("avx512bf16") != 0);
}

}  // namespace
}  // namespace switchyard
