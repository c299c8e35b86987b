#include "ops/causal_attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "support/tensors.h"

// Against apply_rotary and the S x S softmax, in float64.

namespace switchyard {
namespace {

using at::Tensor;

struct Case {
  int64_t batch, positions;
  HeadShape heads;
  int64_t turned;  // numbers of a head that are rotated
};

/// One position; blocks of 64 queries and 128 keys filled, one less and one more; grouped heads.
const std::vector<Case> kCases = {{1, 1, {1, 1, 2}, 2},    {2, 64, {2, 2, 8}, 8},
                                  {1, 127, {2, 1, 4}, 4},  {2, 129, {4, 2, 6}, 4},
                                  {1, 300, {3, 1, 16}, 0}, {0, 5, {1, 1, 4}, 4}};

RotaryTable table_of(const Case& c) {
  const Tensor exponent = at::arange(0, c.turned, 2, at::kDouble) / std::max<double>(1, c.turned);
  return rotary_table(0, c.positions, at::pow(100.0, -exponent));
}

Tensor plain(const Tensor& qkv_BSX, const RotaryTable& table, const HeadShape& heads) {
  const int64_t B = qkv_BSX.size(0), S = qkv_BSX.size(1), N = heads.query, M = heads.key_value,
                H = heads.width;
  const auto parts = qkv_BSX.view({B, S, N + 2 * M, H}).split_with_sizes({N, M, M}, 2);
  const auto repeated = [&](const Tensor& x) { return x.repeat_interleave(N / M, /*dim=*/2); };
  const Tensor q = apply_rotary(parts[0], table).transpose(1, 2);
  const Tensor k = repeated(apply_rotary(parts[1], table)).transpose(1, 2);
  const Tensor v = repeated(parts[2]).transpose(1, 2);
  const Tensor hidden = at::ones({S, S}, at::kBool).tril().logical_not();
  const Tensor scores = at::matmul(q, k.transpose(2, 3)) / std::sqrt(static_cast<double>(H));
  const Tensor p = scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()).softmax(-1);
  return at::matmul(p, v).transpose(1, 2).reshape({B, S, N * H});
}

void expect_equal(const Case& c, at::ScalarType dtype, double tolerance) {
  const int64_t width = (c.heads.query + 2 * c.heads.key_value) * c.heads.width;
  Tensor fast = normal_tensor({c.batch, c.positions, width}, "qkv", dtype).set_requires_grad(true);
  Tensor exact = fast.detach().to(at::kDouble).set_requires_grad(true);
  ASSERT_TRUE(fits_causal_attention(fast, c.heads));
  const RotaryTable table = table_of(c);
  const Tensor y = causal_attention(fast, table, c.heads), expected = plain(exact, table, c.heads);
  EXPECT_TRUE(near(y, expected.to(dtype), tolerance)) << c.positions << " positions";
  const Tensor dy = normal_tensor(y.sizes().vec(), "dy", dtype);
  y.backward(dy);
  expected.backward(dy.to(at::kDouble));
  EXPECT_TRUE(near(fast.grad(), exact.grad().to(dtype), 4 * tolerance))
      << c.positions << " positions";
}

TEST(CausalAttentionTest, EqualsTheWholeSoftmax) {
  for (const Case& c : kCases) expect_equal(c, at::kFloat, 1e-5);
}

TEST(CausalAttentionTest, InBfloat16) {
  for (const Case& c : kCases) expect_equal(c, at::kBFloat16, 0x1.0p-6);
}

TEST(CausalAttentionTest, ComposedOfLibTorchsAttentionItIsTheSame) {
  for (const Case& c : kCases) {
    const int64_t width = (c.heads.query + 2 * c.heads.key_value) * c.heads.width;
    const Tensor qkv = normal_tensor({c.batch, c.positions, width}, "qkv");
    const RotaryTable table = table_of(c);
    EXPECT_TRUE(near(composed_attention(qkv, table, c.heads), plain(qkv, table, c.heads), 1e-6));
  }
}

TEST(CausalAttentionTest, LargeScoresDoNotOverflow) {
  const RotaryTable table = rotary_table(0, 130, at::ones({2}, at::kDouble));
  Tensor qkv = (normal_tensor({1, 130, 12}, "qkv", at::kFloat) * 300).set_requires_grad(true);
  const Tensor y = causal_attention(qkv, table, {1, 1, 4});
  y.sum().backward();
  EXPECT_TRUE(y.isfinite().all().item<bool>());
  EXPECT_TRUE(qkv.grad().isfinite().all().item<bool>());
}

TEST(CausalAttentionTest, ThreadsChangeNothing) {
  const int threads = at::get_num_threads();
  const RotaryTable table = rotary_table(0, 150, at::ones({2}, at::kDouble));
  std::vector<Tensor> results;
  for (const int count : {1, 3}) {
    at::set_num_threads(count);
    Tensor qkv = normal_tensor({2, 150, 32}, "qkv", at::kFloat).set_requires_grad(true);
    const Tensor y = causal_attention(qkv, table, {4, 2, 4});
    y.sum().backward();
    results.push_back(y.detach());
    results.push_back(qkv.grad());
  }
  at::set_num_threads(threads);
  EXPECT_TRUE(same(results[0], results[2]));
  EXPECT_TRUE(same(results[1], results[3]));
}

TEST(CausalAttentionTest, ASequenceDoesNotDependOnTheOthers) {
  const RotaryTable table = rotary_table(0, 70, at::ones({2}, at::kDouble));
  const Tensor qkv = normal_tensor({3, 70, 24}, "qkv", at::kFloat);
  const Tensor all = causal_attention(qkv, table, {2, 2, 4});
  EXPECT_TRUE(same(causal_attention(qkv.narrow(0, 1, 1), table, {2, 2, 4}), all.narrow(0, 1, 1)));
}

}  // namespace
}  // namespace switchyard
