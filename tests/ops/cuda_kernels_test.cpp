#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "ops/composed.h"
#include "support/cuda_on_host.h"
#include "support/evaluate.h"

// Kernels, after the words that they use.
#include "ops/cuda/row_kernels.cuh"
#include "ops/cuda/sort_kernels.cuh"

// The kernels' code, run by threads of the host, against what the ops are composed of.

namespace switchyard {

namespace cuda {
int64_t of_bucket[64];  // shared by a block's threads; blocks run one after another
}  // namespace cuda

namespace {

using at::Tensor;
using cuda_on_host::Dim3;
using cuda_on_host::run_kernel;

constexpr Dim3 kBlock{cuda::kWarp, cuda::kRowsPerBlock};

Dim3 blocks_of(int64_t rows) {
  return {static_cast<unsigned>((rows + cuda::kRowsPerBlock - 1) / cuda::kRowsPerBlock)};
}

/// A dtype, and columns that are loaded one by one or `width` at a time.
template <class scalar_t_, int width_, int columns_>
struct Kind {
  using scalar_t = scalar_t_;
  static constexpr int width = width_;
  static constexpr int64_t columns = columns_;
  static constexpr at::ScalarType dtype =
      std::is_same_v<scalar_t, float> ? at::kFloat : at::kBFloat16;
  static constexpr double tolerance = std::is_same_v<scalar_t, float> ? 1e-5 : 0x1.0p-7;

  static Tensor draw(std::vector<int64_t> shape, const char* name) {
    return normal_tensor(std::move(shape), name, dtype);
  }
  static scalar_t* data(const Tensor& x) { return x.data_ptr<scalar_t>(); }
};

template <class Kind>
class CudaKernelsTest : public testing::Test {};
using Kinds = testing::Types<Kind<float, 1, 5>, Kind<float, 4, 264>, Kind<at::BFloat16, 1, 37>,
                             Kind<at::BFloat16, 8, 264>>;
TYPED_TEST_SUITE(CudaKernelsTest, Kinds);

/// 7 tokens of 3 choices, some dropped, and a row of padding.
struct Rows {
  static constexpr int64_t T = 7, K = 3;
  RowMap map;
  Rows() {
    const SortedPairs sorted =
        sort_by_expert(at::arange(T * K).mul(5).remainder(4).view({T, K}),
                       (at::arange(T * K).remainder(5) != 3).view({T, K}), 4);
    map = {at::cat({sorted.order.narrow(0, 0, 17), at::full({1}, -1, at::kLong)}), sorted.slot_TK};
  }
  int64_t S() const { return map.pair_S.size(0); }
  const int64_t* pairs() const { return map.pair_S.data_ptr<int64_t>(); }
  const int64_t* slots() const { return map.slot_TK.data_ptr<int64_t>(); }
};

TYPED_TEST(CudaKernelsTest, CopyRows) {
  using Kind = TypeParam;
  const Rows rows;
  const Tensor x = Kind::draw({rows.T, Kind::columns}, "x"),
               out = Kind::draw({rows.S(), Kind::columns}, "before");
  run_kernel(blocks_of(rows.S()), kBlock,
             cuda::copy_rows_kernel<typename Kind::scalar_t, Kind::width>, Kind::data(x),
             rows.pairs(), rows.S(), rows.K, Kind::columns, Kind::data(out));
  EXPECT_TRUE(same(out, composed::copy_rows(x, rows.map.pair_S, rows.K)));
}

TYPED_TEST(CudaKernelsTest, SumSlots) {
  using Kind = TypeParam;
  const Rows rows;
  const Tensor y = Kind::draw({rows.S(), Kind::columns}, "y"),
               factors = normal_tensor({rows.T, rows.K}, "factors", at::kFloat);
  for (const Tensor& of_pairs : {factors, Tensor()}) {
    const Tensor out = Kind::draw({rows.T, Kind::columns}, "before");
    run_kernel(blocks_of(rows.T), kBlock,
               cuda::sum_slots_kernel<typename Kind::scalar_t, Kind::width>, Kind::data(y),
               rows.slots(), of_pairs.defined() ? of_pairs.data_ptr<float>() : nullptr, rows.T,
               rows.K, Kind::columns, Kind::data(out));
    EXPECT_TRUE(near(out, composed::sum_slots(y, rows.map.slot_TK, of_pairs), Kind::tolerance));
  }
}

TYPED_TEST(CudaKernelsTest, CombineGradients) {
  using Kind = TypeParam;
  const Rows rows;
  const Tensor y = Kind::draw({rows.S(), Kind::columns}, "y"),
               dout = Kind::draw({rows.T, Kind::columns}, "dout"),
               weights = normal_tensor({rows.T, rows.K}, "weights", at::kFloat);
  const Tensor dy = Kind::draw({rows.S(), Kind::columns}, "before"),
               dweights = at::zeros_like(weights);
  run_kernel(blocks_of(rows.S()), kBlock,
             cuda::combine_gradients_kernel<typename Kind::scalar_t, Kind::width>, Kind::data(y),
             weights.data_ptr<float>(), rows.pairs(), Kind::data(dout), rows.S(), rows.K,
             Kind::columns, Kind::data(dy), dweights.data_ptr<float>());
  const CombineGradients expected = composed::combine_gradients(y, weights, rows.map, dout);
  EXPECT_TRUE(near(dy, expected.dy_SD, Kind::tolerance));
  EXPECT_TRUE(near(dweights, expected.dweights_TK, 1e-4));
}

TYPED_TEST(CudaKernelsTest, RmsNormAndItsGradients) {
  using Kind = TypeParam;
  constexpr int64_t R = 133, D = Kind::columns;  // a piece of 128, and another
  const Tensor x = Kind::draw({R, D}, "x"), weight = Kind::draw({D}, "weight"),
               dy = Kind::draw({R, D}, "dy");
  const Tensor y = Kind::draw({R, D}, "before"), dx = Kind::draw({R, D}, "before"),
               rstd = at::empty({R}, at::kFloat), partial = at::empty({2, D}, at::kFloat);
  run_kernel(blocks_of(R), kBlock, cuda::rms_norm_kernel<typename Kind::scalar_t, Kind::width>,
             Kind::data(x), Kind::data(weight), 1e-5F, R, D, Kind::data(y), rstd.data_ptr<float>());
  const NormRows rows = composed::rms_norm(x, weight, 1e-5);
  EXPECT_TRUE(near(y, rows.y_RD, Kind::tolerance));
  EXPECT_TRUE(near(rstd, rows.rstd_R, 1e-5));
  run_kernel(blocks_of(R), kBlock,
             cuda::rms_norm_gradient_kernel<typename Kind::scalar_t, Kind::width>, Kind::data(x),
             Kind::data(weight), rstd.data_ptr<float>(), Kind::data(dy), R, D, Kind::data(dx));
  run_kernel({static_cast<unsigned>((D + 63) / 64), 2}, {64},
             cuda::rms_norm_weight_kernel<typename Kind::scalar_t>, Kind::data(x),
             rstd.data_ptr<float>(), Kind::data(dy), R, D, partial.data_ptr<float>());
  const NormGradients gradients = composed::rms_norm_gradients(x, weight, rows.rstd_R, dy);
  EXPECT_TRUE(near(dx, gradients.dx_RD, Kind::tolerance));
  EXPECT_TRUE(near(partial.sum(0).to(Kind::dtype), gradients.dweight, 2 * Kind::tolerance));
}

TYPED_TEST(CudaKernelsTest, SwiGluAndItsGradient) {
  using Kind = TypeParam;
  constexpr int64_t R = 11, F = Kind::columns;
  const Tensor h = Kind::draw({R, 2 * F}, "h"), dy = Kind::draw({R, F}, "dy");
  const Tensor y = Kind::draw({R, F}, "before"), dh = Kind::draw({R, 2 * F}, "before");
  run_kernel(blocks_of(R), kBlock, cuda::swiglu_kernel<typename Kind::scalar_t, Kind::width>,
             Kind::data(h), R, F, Kind::data(y));
  EXPECT_TRUE(near(y, composed::swiglu(h), Kind::tolerance));
  run_kernel(blocks_of(R), kBlock,
             cuda::swiglu_gradient_kernel<typename Kind::scalar_t, Kind::width>, Kind::data(h),
             Kind::data(dy), R, F, Kind::data(dh));
  EXPECT_TRUE(near(dh, composed::swiglu_gradient(h, dy), Kind::tolerance));
}

TYPED_TEST(CudaKernelsTest, RotateOfSomeHeadsOfAProjection) {
  using Kind = TypeParam;
  constexpr int64_t B = 2, S = 5, N = 3, H = 14, half = 5;
  const Tensor angle = normal_tensor({S, half}, "angle", at::kFloat), cos = angle.cos(),
               sin = angle.sin();
  const Tensor x = Kind::draw({B, S, N + 2, H}, "x").narrow(2, 1, N),
               y = at::empty({B, S, N, H}, Kind::dtype);
  for (const float sign : {1.0F, -1.0F}) {
    run_kernel(blocks_of(B * S), kBlock, cuda::rotate_kernel<typename Kind::scalar_t>,
               Kind::data(x), cuda::HeadStrides{x.stride(0), x.stride(1), x.stride(2)},
               cos.template data_ptr<float>(), sin.template data_ptr<float>(), sign, B, S, int{N},
               int{H}, int{half}, Kind::data(y));
    EXPECT_TRUE(near(y, composed::rotate(x, cos, sin, sign), Kind::tolerance));
  }
}

TEST(CudaKernelTest, AdamW) {
  const AdamWFactors factors{0.5F, 0.99F, 0.9F, 0.1F, 0.95F, 0.05F, 1e-2F, 1.3F, 1e-8F};
  const auto start = [] {
    const auto draw = [](const char* name) { return normal_tensor({101}, name, at::kFloat); };
    return AdamWTensors{draw("w"), draw("g"), draw("m"), draw("v").square(),
                        at::zeros({101}, at::kBFloat16)};
  };
  const AdamWTensors t = start(), expected = start();
  run_kernel({2}, {64}, cuda::adamw_kernel, factors, t.gradient.data_ptr<float>(), int64_t{101},
             t.weight.data_ptr<float>(), t.exp_avg.data_ptr<float>(),
             t.exp_avg_sq.data_ptr<float>(), t.rounded.data_ptr<at::BFloat16>());
  adamw_update(expected, factors);
  EXPECT_TRUE(near(t.weight, expected.weight, 1e-6));
  EXPECT_TRUE(near(t.exp_avg, expected.exp_avg, 1e-6));
  EXPECT_TRUE(near(t.exp_avg_sq, expected.exp_avg_sq, 1e-6));
  EXPECT_TRUE(same(t.rounded, t.weight.to(at::kBFloat16)));
}

TEST(CudaKernelTest, SortsPairsByExpert) {
  for (const int64_t pairs : {1, 255, 700}) {
    constexpr int E = 6;  // of which the last gets none
    const Tensor experts = at::arange(pairs).mul(11).remainder(E - 1).view({pairs, 1}),
                 kept = (at::arange(pairs).remainder(7) != 2).view({pairs, 1});
    const auto blocks =
        static_cast<unsigned>((pairs + cuda::kPairsPerBlock - 1) / cuda::kPairsPerBlock);
    const Tensor counts = at::empty({E + 1, blocks}, at::kLong);
    run_kernel({blocks}, {32}, cuda::count_pairs_kernel, experts.data_ptr<int64_t>(),
               kept.data_ptr<bool>(), pairs, E, counts.data_ptr<int64_t>());
    const Tensor begins = counts.flatten().cumsum(0) - counts.flatten(),
                 order = at::empty({pairs}, at::kLong), slots = at::empty({pairs, 1}, at::kLong);
    run_kernel({blocks}, {32}, cuda::place_pairs_kernel, experts.data_ptr<int64_t>(),
               kept.data_ptr<bool>(), pairs, E, begins.data_ptr<int64_t>(),
               order.data_ptr<int64_t>(), slots.data_ptr<int64_t>());
    const SortedPairs expected = sort_by_expert(experts, kept, E);
    EXPECT_TRUE(same(order, expected.order));
    EXPECT_TRUE(same(slots, expected.slot_TK));
    EXPECT_TRUE(same(counts.sum(1).narrow(0, 0, E), expected.rows_E));
  }
}

}  // namespace
}  // namespace switchyard
