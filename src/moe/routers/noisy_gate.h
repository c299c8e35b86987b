#pragma once

#include <ATen/core/Tensor.h>

// N rows (tokens, or tokens times groups), M experts to choose from, K of them chosen.

namespace switchyard {

/// One noisy top-k gate, arXiv:1701.06538 section 2.1 and appendix A:
///
///   H = z + n * softplus(r) + eps n       n standard normal (eq. 4; eps 0.01 in the
///                                         authors' code)
///   G = softmax(KeepTopK(H, k))           over the kept k alone (eqs. 3, 5)
///   load_i = P(i is chosen if its own noise is drawn anew)     (eqs. 8, 9)
struct NoisyGate {
  at::Tensor noisy_NM;    // H, in the graph; z where there is no noise
  at::Tensor experts_NK;  // (N, K) int64, best first
  at::Tensor weights_NK;  // G of these, in the graph
  at::Tensor gates_NM;    // G, zero elsewhere, in the graph
  at::Tensor load_NM;     // in the graph; without noise or with k = M, 1 where chosen
};

///   clean_NM  (N, M) z, float32 or float64
///   raw_NM    (N, M) r; read only with noise
///   noise_NM  (N, M) n; undefined: no noise
NoisyGate noisy_gate(const at::Tensor& clean_NM, const at::Tensor& raw_NM,
                     const at::Tensor& noise_NM, double eps, int64_t top_k);

}  // namespace switchyard
