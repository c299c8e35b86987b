#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>

#include "ops/cuda/elementwise.h"

// One warp for each row, kRowsPerBlock rows in a block: blockDim is (kWarp, kRowsPerBlock). A lane
// takes `width` neighbouring columns at a time, which are one load where width is not 1: D is then
// a multiple of it and rows begin at multiples of 16 bytes. Sums over a row are each lane's, then
// joined in a fixed order; sums over rows run in ascending order. Nothing is atomic.

namespace switchyard::cuda {

constexpr int kWarp = 32, kRowsPerBlock = 8;
constexpr int kRowsPerPiece = 128;  // of the sums over rows in a norm's weight gradient

template <class scalar_t, int width>
struct alignas(sizeof(scalar_t) * width) Vector {
  scalar_t x[width];
};

template <int width, class scalar_t>
__device__ Vector<scalar_t, width> load(const scalar_t* from) {
  return *reinterpret_cast<const Vector<scalar_t, width>*>(from);
}

template <class scalar_t, int width>
__device__ void store(scalar_t* to, const Vector<scalar_t, width>& v) {
  *reinterpret_cast<Vector<scalar_t, width>*>(to) = v;
}

/// The sum of all lanes' numbers, on every lane.
__device__ inline float warp_sum(float x) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    x += __shfl_xor_sync(0xFFFFFFFF, x, distance);
  }
  return x;
}

__device__ inline int64_t row_of_warp() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
}

/// out (S, D): row pair[s] / K of x, or zero.
template <class scalar_t, int width>
__global__ void copy_rows_kernel(const scalar_t* x, const int64_t* pair, int64_t S, int64_t K,
                                 int64_t D, scalar_t* out) {
  const int64_t s = row_of_warp();
  if (s >= S) return;
  const int64_t from = pair[s];
  const scalar_t* row = x + (from < 0 ? 0 : from / K) * D;
  for (int64_t d = threadIdx.x * width; d < D; d += kWarp * width) {
    store(out + s * D + d, from < 0 ? Vector<scalar_t, width>{} : load<width>(row + d));
  }
}

/// out (T, D): sums of the rows slot (T, K) of y, weighted where there are factors (T, K).
template <class scalar_t, int width>
__global__ void sum_slots_kernel(const scalar_t* y, const int64_t* slot, const float* factors,
                                 int64_t T, int64_t K, int64_t D, scalar_t* out) {
  const int64_t t = row_of_warp();
  if (t >= T) return;
  for (int64_t d = threadIdx.x * width; d < D; d += kWarp * width) {
    float sum[width] = {};
    for (int64_t k = 0; k < K; ++k) {
      const int64_t s = slot[t * K + k];
      if (s < 0) continue;
      const float factor = factors == nullptr ? 1.0F : factors[t * K + k];
      const auto v = load<width>(y + s * D + d);
      for (int i = 0; i < width; ++i) sum[i] += factor * static_cast<float>(v.x[i]);
    }
    Vector<scalar_t, width> rounded;
    for (int i = 0; i < width; ++i) rounded.x[i] = static_cast<scalar_t>(sum[i]);
    store(out + t * D + d, rounded);
  }
}

/// dy (S, D) and dweights (T, K), of which the kept pairs' are written.
template <class scalar_t, int width>
__global__ void combine_gradients_kernel(const scalar_t* y, const float* weights,
                                         const int64_t* pair, const scalar_t* dout, int64_t S,
                                         int64_t K, int64_t D, scalar_t* dy, float* dweights) {
  const int64_t s = row_of_warp();
  if (s >= S) return;
  const int64_t from = pair[s];
  const scalar_t* row_dout = dout + (from < 0 ? 0 : from / K) * D;
  const float weight = from < 0 ? 0.0F : weights[from];
  float dot = 0;
  for (int64_t d = threadIdx.x * width; d < D; d += kWarp * width) {
    Vector<scalar_t, width> gradient{};
    if (from >= 0) {
      const auto a = load<width>(row_dout + d), b = load<width>(y + s * D + d);
      for (int i = 0; i < width; ++i) {
        const float g = static_cast<float>(a.x[i]);
        dot += g * static_cast<float>(b.x[i]);
        gradient.x[i] = static_cast<scalar_t>(weight * g);
      }
    }
    store(dy + s * D + d, gradient);
  }
  dot = warp_sum(dot);
  if (threadIdx.x == 0 && from >= 0) dweights[from] = dot;
}

/// y (R, D) and rstd (R).
template <class scalar_t, int width>
__global__ void rms_norm_kernel(const scalar_t* x, const scalar_t* weight, float eps, int64_t R,
                                int64_t D, scalar_t* y, float* rstd) {
  const int64_t r = row_of_warp();
  if (r >= R) return;
  float squares = 0;
  for (int64_t d = threadIdx.x * width; d < D; d += kWarp * width) {
    const auto v = load<width>(x + r * D + d);
    for (int i = 0; i < width; ++i) {
      squares += static_cast<float>(v.x[i]) * static_cast<float>(v.x[i]);
    }
  }
  const float factor = 1.0F / std::sqrt(warp_sum(squares) / static_cast<float>(D) + eps);
  if (threadIdx.x == 0) rstd[r] = factor;
  for (int64_t d = threadIdx.x * width; d < D; d += kWarp * width) {
    auto v = load<width>(x + r * D + d);
    const auto w = load<width>(weight + d);
    for (int i = 0; i < width; ++i) {
      v.x[i] =
          static_cast<scalar_t>(static_cast<float>(v.x[i]) * factor * static_cast<float>(w.x[i]));
    }
    store(y + r * D + d, v);
  }
}

/// dx (R, D).
template <class scalar_t, int width>
__global__ void rms_norm_gradient_kernel(const scalar_t* x, const scalar_t* weight,
                                         const float* rstd, const scalar_t* dy, int64_t R,
                                         int64_t D, scalar_t* dx) {
  const int64_t r = row_of_warp();
  if (r >= R) return;
  const float factor = rstd[r];
  float dot = 0;
  for (int64_t d = threadIdx.x * width; d < D; d += kWarp * width) {
    const auto v = load<width>(x + r * D + d), g = load<width>(dy + r * D + d),
               w = load<width>(weight + d);
    for (int i = 0; i < width; ++i) {
      dot += static_cast<float>(g.x[i]) * static_cast<float>(w.x[i]) *
             (static_cast<float>(v.x[i]) * factor);
    }
  }
  const float mean = warp_sum(dot) / static_cast<float>(D);
  for (int64_t d = threadIdx.x * width; d < D; d += kWarp * width) {
    auto v = load<width>(x + r * D + d);
    const auto g = load<width>(dy + r * D + d), w = load<width>(weight + d);
    for (int i = 0; i < width; ++i) {
      v.x[i] = static_cast<scalar_t>(
          norm_gradient(static_cast<float>(g.x[i]) * static_cast<float>(w.x[i]),
                        static_cast<float>(v.x[i]) * factor, mean, factor));
    }
    store(dx + r * D + d, v);
  }
}

/// partial (P, D): sums of dy * x * rstd over the rows of each piece. A thread has a column, a
/// block (blockDim.x columns) a piece: the grid is (columns, P).
template <class scalar_t>
__global__ void rms_norm_weight_kernel(const scalar_t* x, const float* rstd, const scalar_t* dy,
                                       int64_t R, int64_t D, float* partial) {
  const int64_t d = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (d >= D) return;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * kRowsPerPiece,
                end = begin + kRowsPerPiece < R ? begin + kRowsPerPiece : R;
  float sum = 0;
  for (int64_t r = begin; r < end; ++r) {
    sum += static_cast<float>(dy[r * D + d]) * (static_cast<float>(x[r * D + d]) * rstd[r]);
  }
  partial[blockIdx.y * D + d] = sum;
}

/// y (R, F) of h = [gate | up] (R, 2F).
template <class scalar_t, int width>
__global__ void swiglu_kernel(const scalar_t* h, int64_t R, int64_t F, scalar_t* y) {
  const int64_t r = row_of_warp();
  if (r >= R) return;
  for (int64_t f = threadIdx.x * width; f < F; f += kWarp * width) {
    auto gate = load<width>(h + r * 2 * F + f);
    const auto up = load<width>(h + r * 2 * F + F + f);
    for (int i = 0; i < width; ++i) {
      gate.x[i] =
          static_cast<scalar_t>(swiglu(static_cast<float>(gate.x[i]), static_cast<float>(up.x[i])));
    }
    store(y + r * F + f, gate);
  }
}

/// dh (R, 2F).
template <class scalar_t, int width>
__global__ void swiglu_gradient_kernel(const scalar_t* h, const scalar_t* dy, int64_t R, int64_t F,
                                       scalar_t* dh) {
  const int64_t r = row_of_warp();
  if (r >= R) return;
  for (int64_t f = threadIdx.x * width; f < F; f += kWarp * width) {
    auto gate = load<width>(h + r * 2 * F + f), up = load<width>(h + r * 2 * F + F + f);
    const auto g = load<width>(dy + r * F + f);
    for (int i = 0; i < width; ++i) {
      float dgate, dup;
      swiglu_gradient(static_cast<float>(gate.x[i]), static_cast<float>(up.x[i]),
                      static_cast<float>(g.x[i]), dgate, dup);
      gate.x[i] = static_cast<scalar_t>(dgate);
      up.x[i] = static_cast<scalar_t>(dup);
    }
    store(dh + r * 2 * F + f, gate);
    store(dh + r * 2 * F + F + f, up);
  }
}

/// Where a position's heads stand in x: B, S and N are strides in elements, of contiguous heads.
struct HeadStrides {
  int64_t B, S, N;
};

/// y (B, S, N, H) contiguous; cos and sin (S, half). A row is a position.
template <class scalar_t>
__global__ void rotate_kernel(const scalar_t* x, HeadStrides strides, const float* cos,
                              const float* sin, float sign, int64_t B, int64_t S, int N, int H,
                              int half, scalar_t* y) {
  const int64_t position = row_of_warp();
  if (position >= B * S) return;
  const int64_t b = position / S, s = position % S;
  const int items = H - half;  // of a head: pairs, then numbers that stay
  for (int i = threadIdx.x; i < N * items; i += kWarp) {
    const int n = i / items, j = i % items;
    const scalar_t* from = x + b * strides.B + s * strides.S + n * strides.N;
    scalar_t* to = y + (position * N + n) * H;
    if (j < half) {
      float first, second;
      turn(static_cast<float>(from[j]), static_cast<float>(from[j + half]), cos[s * half + j],
           sign * sin[s * half + j], first, second);
      to[j] = static_cast<scalar_t>(first);
      to[j + half] = static_cast<scalar_t>(second);
    } else {
      to[j + half] = from[j + half];
    }
  }
}

/// A thread for each element, in blocks of one dimension.
__global__ inline void adamw_kernel(AdamWFactors factors, const float* gradient, int64_t count,
                                    float* weight, float* exp_avg, float* exp_avg_sq,
                                    c10::BFloat16* rounded) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  float w = weight[i], m = exp_avg[i], v = exp_avg_sq[i];
  adamw(factors, gradient[i], w, m, v);
  weight[i] = w;
  exp_avg[i] = m;
  exp_avg_sq[i] = v;
  if (rounded != nullptr) rounded[i] = static_cast<c10::BFloat16>(w);
}

}  // namespace switchyard::cuda
