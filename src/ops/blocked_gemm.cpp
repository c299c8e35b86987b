#include "ops/blocked_gemm.h"

#include <ATen/native/CPUBlas.h>
#include <cpuinfo.h>
#include <fbgemm/Utils.h>

namespace switchyard {
namespace {

constexpr int64_t kDepthMultiple = 32;

void transpose_words(int64_t rows, int64_t columns, const float* from, int64_t from_stride,
                     float* to, int64_t to_stride) {
  fbgemm::transpose_simd<float>(rows, columns, from, from_stride, to, to_stride);
}

/// Two bfloat16 of a row as one word, which transposing keeps together.
const float* words(const at::BFloat16* x) { return reinterpret_cast<const float*>(x); }
float* words(at::BFloat16* x) { return reinterpret_cast<float*>(x); }

/// to[2 * i] = low[i], to[2 * i + 1] = high[i].
void interleave(const at::BFloat16* low, const at::BFloat16* high, int64_t count,
                at::BFloat16* to) {
  const auto* a = reinterpret_cast<const uint16_t*>(low);
  const auto* b = reinterpret_cast<const uint16_t*>(high);
  auto* pairs = reinterpret_cast<uint32_t*>(to);
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    pairs[i] = static_cast<uint32_t>(a[i]) | static_cast<uint32_t>(b[i]) << 16;
  }
}

void pack_rows(const MatrixRef<float>& b, float* to, int64_t columns) {
  for (int64_t k = 0; k < b.rows; ++k) std::copy_n(b.row(k), b.columns, to + k * columns);
}

void pack_rows(const MatrixRef<at::BFloat16>& b, at::BFloat16* to, int64_t columns) {
  static const at::BFloat16 zeros[kPanelColumns] = {};
  for (int64_t k = 0; k < b.rows; k += 2) {
    interleave(b.row(k), k + 1 < b.rows ? b.row(k + 1) : zeros, b.columns, to + k * columns);
  }
}

}  // namespace

bool has_blocked_gemm(at::ScalarType dtype) {
  static const bool bfloat16 = cpuinfo_initialize() && cpuinfo_has_x86_avx512bf16();
  return dtype == at::kFloat || (dtype == at::kBFloat16 && bfloat16);
}

template <class scalar_t>
void Panel<scalar_t>::reshape(int64_t depth, int64_t columns) {
  depth_ = depth;
  columns_ = columns;
  data_.reserve(round_up(depth, kDepthMultiple) * columns);
}

template <class scalar_t>
void Panel<scalar_t>::pack(const MatrixRef<scalar_t>& b, int64_t at) {
  constexpr int64_t width = sizeof(float) / sizeof(scalar_t);  // rows that lie interleaved
  pack_rows(b, data_.data() + at * width, columns_);
  const int64_t filled = round_up(depth_, width);
  std::fill_n(data_.data() + filled * columns_,
              (round_up(depth_, kDepthMultiple) - filled) * columns_, scalar_t(0));
}

template <>
void Panel<float>::pack_transposed(const MatrixRef<float>& b, int64_t at) {
  transpose_words(b.rows, b.columns, b.data, b.stride, data_.data() + at, columns_);
}

template <>
void Panel<at::BFloat16>::pack_transposed(const MatrixRef<at::BFloat16>& b, int64_t at) {
  transpose_words(b.rows, b.columns / 2, words(b.data), b.stride / 2, words(data_.data()) + at,
                  columns_);
}

template <class scalar_t>
void Panel<scalar_t>::multiply(const scalar_t* a, int64_t a_stride, int64_t rows, int64_t depth,
                               float* c, int64_t c_stride, bool add) const {
  // The micro-kernel reads the panel once for every few rows: only so many of the panel's rows at
  // a time as stay in the second cache.
  constexpr int64_t kDepth = 512;
  for (int64_t k = 0; k < depth; k += kDepth) {
    at::native::cpublas::brgemm(rows, columns_, std::min(kDepth, depth - k), a_stride, columns_,
                                c_stride, add || k > 0, a + k, data_.data() + k * columns_, c,
                                /*is_vnni=*/sizeof(scalar_t) == 2);
  }
}

template <>
void transpose(const MatrixRef<float>& b, float* out, int64_t out_stride) {
  transpose_words(b.rows, b.columns, b.data, b.stride, out, out_stride);
}

template <>
void transpose(const MatrixRef<at::BFloat16>& b, at::BFloat16* out, int64_t out_stride) {
  fbgemm::transpose_simd<uint16_t>(b.rows, b.columns, reinterpret_cast<const uint16_t*>(b.data),
                                   b.stride, reinterpret_cast<uint16_t*>(out), out_stride);
}

void end_of_products() { at::native::cpublas::brgemm_release(); }

template class Panel<float>;
template class Panel<at::BFloat16>;

}  // namespace switchyard
