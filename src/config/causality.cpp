#include "config/causality.h"

#include <optional>

namespace switchyard {
namespace {

constexpr const char* kType = "moe.router.type";
constexpr const char* kNoCapacity = "no capacity (`factor: null`, `eval_factor: null`)";

std::string quoted(const std::string& key, const std::string& value) {
  return "`" + key + "` " + value;
}

/// Routers that decide over a whole routing group.
void find_group_router(const MoeConfig& moe, bool in_training,
                       std::vector<CrossTokenSetting>& found) {
  const std::string& type = moe.router.type;
  const bool in_both = type == "expert_choice" || type == "sparse_ot";
  const bool only_in_training = type == "base" || type == "sinkhorn";
  if (!in_both && !(only_in_training && in_training)) return;
  found.push_back({{kType},
                   quoted(kType, type) +
                       " decides over all tokens of a routing group together, so that later "
                       "tokens change what happens to earlier ones",
                   "use another router"});
}

/// What a capacity with this factor looks at.
void find_capacity(const MoeConfig& moe, const std::string& factor_key, bool in_training,
                   std::vector<CrossTokenSetting>& found) {
  const std::vector<std::string> factors = {"moe.capacity.factor", "moe.capacity.eval_factor"};
  if (moe.router.type == "gshard") {
    found.push_back({{kType, factors[0], factors[1]},
                     quoted(kType, "gshard") +
                         " with a capacity gives first choices their slots before second ones, so "
                         "that later tokens push out earlier ones",
                     std::string("use ") + kNoCapacity});
    return;
  }
  if (moe.capacity.priority != "position") {
    found.push_back({{"moe.capacity.priority", factors[0], factors[1]},
                     quoted("moe.capacity.priority", moe.capacity.priority) +
                         " with a capacity lets later tokens push out earlier ones",
                     std::string("use position, ") + kNoCapacity});
  }
  if (moe.capacity.scope == "rank") {
    found.push_back({{"moe.capacity.scope", factor_key},
                     quoted("moe.capacity.scope", "rank") +
                         " shares out slots over several sequences, so that one pushes out tokens "
                         "of another",
                     std::string("use group, ") + kNoCapacity});
  } else if (in_training && moe.group_sequences > 1) {
    found.push_back({{"moe.group_sequences", factor_key},
                     quoted("moe.group_sequences", std::to_string(moe.group_sequences)) +
                         " with a capacity shares out slots over several sequences, so that one "
                         "pushes out tokens of another",
                     std::string("use 1, ") + kNoCapacity});
  }
}

void find_device_budget(const MoeConfig& moe, std::vector<CrossTokenSetting>& found) {
  if (!moe.capacity.device_factor) return;
  found.push_back({{"moe.capacity.device_factor"},
                   "`moe.capacity.device_factor` drops the least probable choices of a routing "
                   "group, so that later tokens push out earlier ones",
                   "use null"});
}

}  // namespace

std::vector<CrossTokenSetting> cross_token_training(const MoeConfig& moe) {
  std::vector<CrossTokenSetting> found;
  find_group_router(moe, /*in_training=*/true, found);
  if (moe.capacity.factor) find_capacity(moe, "moe.capacity.factor", /*in_training=*/true, found);
  find_device_budget(moe, found);
  return found;
}

std::vector<CrossTokenSetting> cross_token_evaluation(const MoeConfig& moe) {
  std::vector<CrossTokenSetting> found;
  find_group_router(moe, /*in_training=*/false, found);
  if (moe.capacity.eval_factor) {
    find_capacity(moe, "moe.capacity.eval_factor", /*in_training=*/false, found);
  }
  return found;
}

}  // namespace switchyard
