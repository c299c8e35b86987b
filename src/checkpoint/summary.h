#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "checkpoint/manifest.h"

namespace switchyard {

/// Tensors of one kind, those of the optimizer included.
struct KindSummary {
  int64_t tensors = 0;
  uint64_t bytes = 0;
  /// Elements of the parameters alone: of kind "dense" and "expert", without
  /// `.master`, `.exp_avg` and `.exp_avg_sq`.
  int64_t parameters = 0;
};

/// By kind: "dense", "expert", "state".
std::map<std::string, KindSummary> summarize(const Manifest& manifest);

/// Bytes of all files that the manifest knows; its own are not among them.
uint64_t file_bytes(const Manifest& manifest);

}  // namespace switchyard
