#pragma once

#include <functional>
#include <string>
#include <vector>

#include "config/run_config.h"

namespace switchyard {

/// What is wrong with the values of some keys, the one to change first.
struct Complaint {
  std::vector<std::string> keys;
  std::string text;  // what, and the way out
};

/// Each value by itself: ranges and words, by the rules of config/fields.h.
std::vector<Complaint> check_values(const RunConfig& config);

/// Values against each other and against the world (0: unknown, not checked).
/// A check is left out unless `known` says of all its keys that their values are
/// to be relied on.
std::vector<Complaint> check_combinations(const RunConfig& config, int world_size,
                                          const std::function<bool(const std::string&)>& known);

/// The same for the router, capacity and balance losses of a mixture of experts.
std::vector<Complaint> check_routing(const MoeConfig& moe,
                                     const std::function<bool(const std::string&)>& known);

}  // namespace switchyard
