#pragma once

#include <c10/util/BFloat16.h>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <cstdint>

namespace switchyard {

/// e^x to 2 units in the last place, for loops that the compiler turns into vector instructions
/// (std::exp is a call). 0 below -87.3, infinity above 88.3; NaN stays. Cody and Waite's
/// reduction to |r| <= ln(2) / 2, then a polynomial of degree 6 in r.
inline float fast_exp(float x) {
  // The ends make n -127 and 128, whose powers of two are 0 and infinity.
  const float above = x < -88.0F ? -88.0F : x;
  const float clamped = above > 88.5F ? 88.5F : above;
  const float shifted = clamped * 1.44269504F + 12582912.0F;  // + 1.5 * 2^23: rounds to an integer
  const float n = shifted - 12582912.0F;
  float r = clamped - n * 0.693359375F;
  r = r + n * 2.12194440e-4F;
  float p = 1.3888889e-3F;
  p = p * r + 8.3333333e-3F;
  p = p * r + 4.1666667e-2F;
  p = p * r + 1.6666667e-1F;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  const auto exponent = static_cast<uint32_t>(std::bit_cast<int32_t>(shifted) - 0x4B400000);
  return p * std::bit_cast<float>((exponent + 127U) << 23);
}

/// *to = x, rounded to nearest even: for loops that are to become vector instructions, which
/// assigning a c10::BFloat16 keeps them from.
inline void store_rounded(float* to, float x) { *to = x; }
inline void store_rounded(double* to, double x) { *to = x; }
inline void store_rounded(c10::BFloat16* to, float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
  *reinterpret_cast<uint16_t*>(to) = static_cast<uint16_t>(x != x ? 0x7FC0U : rounded);
}

/// to[i] = from[i], rounded to nearest even, in the processor's instruction where it has one.
inline void round_row(const float* from, c10::BFloat16* to, int64_t count) {
  int64_t i = 0;
#ifdef __AVX512BF16__
  for (; i + 16 <= count; i += 16) {
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(from + i));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), reinterpret_cast<__m256i>(rounded));
  }
#endif
  for (; i < count; ++i) store_rounded(to + i, from[i]);
}
inline void round_row(const float* from, float* to, int64_t count) { std::copy_n(from, count, to); }

/// to[i] = from[i], which float32 holds exactly.
inline void widen_row(const c10::BFloat16* from, float* to, int64_t count) {
  const auto* high = reinterpret_cast<const uint16_t*>(from);
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    to[i] = std::bit_cast<float>(static_cast<uint32_t>(high[i]) << 16);
  }
}
inline void widen_row(const float* from, float* to, int64_t count) { std::copy_n(from, count, to); }

inline constexpr int64_t kLanes = 16;  // of the widest vectors, in float32

/// All of a vector's numbers joined into one, pair by pair.
template <class number_t, class Join>
number_t join_lanes(const number_t (&x)[kLanes], const Join& join) {
  number_t eight[8], four[4];
#pragma omp simd
  for (int64_t l = 0; l < 8; ++l) eight[l] = join(x[l], x[l + 8]);
#pragma omp simd
  for (int64_t l = 0; l < 4; ++l) four[l] = join(eight[l], eight[l + 4]);
  return join(join(four[0], four[2]), join(four[1], four[3]));
}

/// The sum of term(i) for i in [0, count), taken in kLanes sums that are then put together pair by
/// pair. (Of a plain reduction the compiler makes a chain of kLanes additions, which in a short row
/// takes longer than the row.)
template <class sum_t, class Term>
sum_t sum_of(int64_t count, const Term& term) {
  sum_t sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
#pragma omp simd
    for (int64_t l = 0; l < kLanes; ++l) sums[l] += term(i + l);
  }
  for (; i < count; ++i) sums[0] += term(i);
  return join_lanes(sums, [](sum_t a, sum_t b) { return a + b; });
}

/// The largest of `count` > 0 numbers, likewise. NaN may be passed over.
inline float largest(const float* x, int64_t count) {
  float tops[kLanes];
  std::fill_n(tops, kLanes, x[0]);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
#pragma omp simd
    for (int64_t l = 0; l < kLanes; ++l) tops[l] = tops[l] < x[i + l] ? x[i + l] : tops[l];
  }
  for (; i < count; ++i) tops[0] = tops[0] < x[i] ? x[i] : tops[0];
  return join_lanes(tops, [](float a, float b) { return a < b ? b : a; });
}

inline float fast_sigmoid(float x) { return 1.0F / (1.0F + fast_exp(-x)); }

}  // namespace switchyard
