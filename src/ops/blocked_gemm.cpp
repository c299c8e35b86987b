#include "ops/blocked_gemm.h"

#include <ATen/Version.h>
#include <ATen/native/CPUBlas.h>
#include <cpuinfo.h>
#include <fbgemm/Utils.h>

#include "ops/vector_math.h"

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

/// Whether products of scalar_t are computed on its numbers in float32.
template <class scalar_t>
bool widens() {
  return sizeof(scalar_t) == 2 && !multiplies_bfloat16();
}

template <class scalar_t>
void widen(const MatrixRef<scalar_t>& b, float* to, int64_t stride) {
  for (int64_t r = 0; r < b.rows; ++r) widen_row(b.row(r), to + r * stride, b.columns);
}

/// Zeros in the panel's rows from `filled` on.
template <class scalar_t>
void fill_depth(scalar_t* panel, int64_t filled, int64_t columns) {
  const int64_t depth = round_up(filled, kDepthMultiple);
  std::fill_n(panel + filled * columns, (depth - filled) * columns, scalar_t(0));
}

void multiply_block(const float* a, int64_t a_stride, const float* b, int64_t b_stride,
                    int64_t rows, int64_t columns, int64_t depth, float* c, int64_t c_stride,
                    bool add) {
  at::native::cpublas::brgemm(rows, columns, depth, a_stride, b_stride, c_stride, add, a, b, c);
}

void multiply_block(const at::BFloat16* a, int64_t a_stride, const at::BFloat16* b,
                    int64_t b_stride, int64_t rows, int64_t columns, int64_t depth, float* c,
                    int64_t c_stride, bool add) {
  at::native::cpublas::brgemm(rows, columns, depth, a_stride, b_stride, c_stride, add, a, b, c,
                              /*is_vnni=*/true);
}

}  // namespace

bool has_blocked_gemm(at::ScalarType dtype) {
  return dtype == at::kFloat || dtype == at::kBFloat16;
}

bool multiplies_bfloat16() {
  static const bool does = at::get_cpu_capability().starts_with("AVX512") && cpuinfo_initialize() &&
                           cpuinfo_has_x86_avx512bf16();
  return does;
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

template <class scalar_t>
void Panel<scalar_t>::reshape(int64_t depth, int64_t columns) {
  depth_ = depth;
  columns_ = columns;
  const int64_t count = round_up(depth, kDepthMultiple) * columns;
  data_.reserve(count);
  if (widens<scalar_t>()) wide_.reserve(count);
}

template <class scalar_t>
void Panel<scalar_t>::pack(const MatrixRef<scalar_t>& b, int64_t at) {
  if (widens<scalar_t>()) {
    widen(b, wide_.data() + at, columns_);
    fill_depth(wide_.data(), depth_, columns_);
  } else {
    constexpr int64_t width = sizeof(float) / sizeof(scalar_t);  // rows that lie interleaved
    pack_rows(b, data_.data() + at * width, columns_);
    fill_depth(data_.data(), round_up(depth_, width), columns_);
  }
}

template <>
void Panel<float>::pack_transposed(const MatrixRef<float>& b, int64_t at) {
  transpose_words(b.rows, b.columns, b.data, b.stride, data_.data() + at, columns_);
}

template <>
void Panel<at::BFloat16>::pack_transposed(const MatrixRef<at::BFloat16>& b, int64_t at) {
  if (widens<at::BFloat16>()) {
    at::BFloat16* transposed = data_.data() + at;
    transpose(b, transposed, columns_);
    widen<at::BFloat16>({transposed, b.columns, b.rows, columns_}, wide_.data() + at, columns_);
  } else {
    transpose_words(b.rows, b.columns / 2, words(b.data), b.stride / 2, words(data_.data()) + at,
                    columns_);
  }
}

template <class scalar_t>
void Panel<scalar_t>::multiply(const scalar_t* a, int64_t a_stride, int64_t rows, int64_t depth,
                               float* c, int64_t c_stride, bool add) const {
  // The micro-kernel reads the panel once for every few rows: only so many of the panel's rows at
  // a time as stay in the second cache.
  constexpr int64_t kDepth = 512, kWideStride = row_stride(kDepth, sizeof(float));
  for (int64_t k = 0; k < depth; k += kDepth) {
    const int64_t share = std::min(kDepth, depth - k);
    if (!widens<scalar_t>()) {
      multiply_block(a + k, a_stride, data_.data() + k * columns_, columns_, rows, columns_, share,
                     c, c_stride, add || k > 0);
      continue;
    }
    float wide[kBlockRows * kWideStride];
    for (int64_t r = 0; r < rows; r += kBlockRows) {
      const int64_t count = std::min(kBlockRows, rows - r);
      widen<scalar_t>({a + r * a_stride + k, count, share, a_stride}, wide, kWideStride);
      multiply_block(wide, kWideStride, wide_.data() + k * columns_, columns_, count, columns_,
                     share, c + r * c_stride, c_stride, add || k > 0);
    }
  }
}

void end_of_products() { at::native::cpublas::brgemm_release(); }

template class Panel<float>;
template class Panel<at::BFloat16>;

}  // namespace switchyard
