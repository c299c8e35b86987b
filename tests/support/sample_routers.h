#pragma once

#include <vector>

#include "config/run_config.h"
#include "moe/router.h"

namespace switchyard {

/// `base` with each router of the factory in turn, its options set so that it is at work.
inline std::vector<MoeConfig> sample_routers(const MoeConfig& base) {
  std::vector<MoeConfig> all;
  for (const std::string& type : router_types()) {
    MoeConfig moe = base;
    moe.router.type = type;
    const bool one = type == "switch" || type == "base" || type == "sinkhorn" ||
                     type == "reinforce" || type == "domain" || type == "sequence";
    moe.top_k = one ? 1 : 2;
    if (type == "group_limited") {
      moe.router.n_group = 4;
      moe.router.topk_group = 2;
    }
    if (type == "hash") moe.router.hash.parts = 2;
    if (type == "sequence") moe.shared_experts = {1, 4, false};
    if (type == "recurrent") moe.router.recurrent.hidden_size = 6;
    all.push_back(moe);
  }
  return all;
}

}  // namespace switchyard
