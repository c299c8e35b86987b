#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace switchyard {

/// Device-level balance loss of DeepSeek-V2, arXiv:2405.04434 eqs. 26-28 (of DeepSeekMoE,
/// arXiv:2401.06066, too): sum_d f'_d P'_d with
///
///   f'_d = mean of f_e over the experts e of device d,   P'_d = sum of P_e over them
///
/// which is linear in P: E sum_e f_e P_e with every f_e replaced by its device's mean, as
/// returned here for load_balancing_sum.
///
///   f_GE     (G, E) load fractions of type kTopK: those of the expert-level loss (eqs. 23-25)
///   devices  groups of E / devices consecutive experts; divides E
///
/// The loss is 1 at balance, and `devices` when one device has all probability and every
/// choice. Local.
at::Tensor device_fractions(const at::Tensor& f_GE, int64_t devices);

}  // namespace switchyard
