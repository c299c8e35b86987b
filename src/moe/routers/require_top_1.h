#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"

namespace switchyard {

/// For routers that choose one expert: throws ConfigError that names the router's type when
/// moe.top_k is not 1.
inline void require_top_1(const std::string& type, int64_t top_k) {
  if (top_k == 1) return;
  throw ConfigError("moe.top_k: " + std::to_string(top_k) + " with moe.router.type " + type +
                    ", which chooses one expert; set it to 1");
}

}  // namespace switchyard
