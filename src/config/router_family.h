#pragma once

#include <string>

namespace switchyard {

/// Whether `moe.router.type` has the options of top-k: score, groups, bias, noise,
/// rerouting and the like.
inline bool is_topk_family(const std::string& type) {
  return type == "topk" || type == "switch" || type == "group_limited";
}

}  // namespace switchyard
