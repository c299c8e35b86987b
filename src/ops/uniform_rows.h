#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "base/random.h"

namespace switchyard {

/// Draws where the ids are, without the host: element i of row r is stream.uniform(i, ids[r]), the
/// same bits as on the host.
///
///   ids_R  (R) int64, none negative
///   Returns (R, width) float32. Local.
at::Tensor uniform_rows(const RandomStream& stream, const at::Tensor& ids_R, int64_t width);

}  // namespace switchyard
