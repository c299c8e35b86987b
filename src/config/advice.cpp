#include <set>

#include "config/layers.h"
#include "config/load_config.h"
#include "config/router_family.h"

namespace switchyard {
namespace {

using Remarks = std::vector<std::string>;

void advise_on_layout(const MoeConfig& moe, Remarks& remarks) {
  const bool has_capacity = moe.capacity.factor || moe.capacity.eval_factor;
  if (has_capacity && moe.capacity.scope == "rank") {
    remarks.push_back(
        "`moe.capacity.scope` rank is layout-dependent: other ranks or micro-batches drop other "
        "tokens; use group for results that do not depend on the layout");
  }
  for (const BalanceConfig& balance : moe.balance) {
    if (balance.scope != "micro_batch") continue;
    remarks.push_back(
        "`moe.balance.scope` micro_batch is layout-dependent: other ranks or micro-batches give "
        "another loss; use group, global or global_lagged for results that do not");
  }
}

/// Options of the top-k family that another router does not look at.
void advise_on_ignored_options(const RouterConfig& router, Remarks& remarks) {
  const auto remark_if = [&](bool is_set, const std::string& key) {
    if (is_set) {
      remarks.push_back("`moe.router." + key + "` has no effect with type " + router.type);
    }
  };
  if (router.type != "switch") remark_if(router.exploration != "argmax", "exploration");
  if (is_topk_family(router.type)) return;
  static const std::set<std::string> with_jitter = {"gshard",    "noisy_topk", "dselect_k",
                                                    "attention", "recurrent",  "sparsemixer"};
  if (!with_jitter.contains(router.type)) remark_if(router.jitter_eps > 0, "jitter_eps");
  remark_if(router.score != "softmax", "score");
  const bool ends_as_topk = router.type == "attention" || router.type == "recurrent";
  remark_if(router.scaling_factor != 1 && !ends_as_topk, "scaling_factor");
  remark_if(router.selection_bias, "selection_bias");
  remark_if(router.n_group > 1, "n_group");
  remark_if(router.noise_std > 0, "noise_std");
  remark_if(router.logit_normalization > 0, "logit_normalization");
  remark_if(router.expert_dropout > 0, "expert_dropout");
  remark_if(router.reroute_choices > 0, "reroute_choices");
}

void advise_on_router(const MoeConfig& moe, Remarks& remarks) {
  const RouterConfig& router = moe.router;
  const bool is_topk = router.type == "topk" || router.type == "group_limited";
  if (is_topk && router.normalize && moe.top_k == 1) {
    remarks.push_back(
        "`moe.router.normalize` with `moe.top_k` 1 makes every weight 1: the language-model loss "
        "gives the router no gradient; set normalize to false, or type to switch");
  }
  advise_on_ignored_options(router, remarks);
  if (router.selection_bias && router.bias_update_rate == 0) {
    remarks.push_back("`moe.router.bias_update_rate` 0 leaves `moe.router.selection_bias` at 0");
  }
  if (router.logit_normalization > 0 && is_topk_family(router.type) && moe.z_loss.coef > 0) {
    remarks.push_back(
        "`moe.z_loss` is almost constant with `moe.router.logit_normalization`: set its coef to 0");
  }
  if (moe.capacity.protected_fraction > 0 && !moe.capacity.device_factor) {
    remarks.push_back(
        "`moe.capacity.protected_fraction` has no effect without `moe.capacity.device_factor`");
  }
  if (router.type == "dense_training" && moe.capacity.factor) {
    remarks.push_back(
        "`moe.capacity.factor` drops tokens of type dense_training, whose experts are all to be "
        "trained on all of them; set it to null");
  }
}

/// Routers that learn nothing, so that no loss balances them, and those that are
/// balanced by what they are.
bool balances_itself(const RouterConfig& router) {
  return router.type == "expert_choice" || router.type == "base" || router.type == "sinkhorn" ||
         router.type == "sparse_ot" || router.type == "hash" || router.type == "domain" ||
         router.type == "dense_training";
}

void advise_on_balance(const MoeConfig& moe, Remarks& remarks) {
  bool is_balanced =
      balances_itself(moe.router) || (moe.router.selection_bias && is_topk_family(moe.router.type));
  for (const BalanceConfig& balance : moe.balance) is_balanced |= balance.coef > 0;
  if (!is_balanced && moe.num_experts > 1) {
    remarks.push_back(
        "nothing balances the experts (no `moe.balance` with a coef above 0, no "
        "`moe.router.selection_bias`): the router may collapse onto a few");
  }
}

/// Losses of routers that have no weights.
void advise_on_losses_without_effect(const MoeConfig& moe, Remarks& remarks) {
  if (moe.router.type != "hash" && moe.router.type != "domain") return;
  for (const BalanceConfig& balance : moe.balance) {
    if (balance.coef == 0) continue;
    remarks.push_back("`moe.balance` has no effect with type " + moe.router.type +
                      ", which learns nothing: it is measured only");
    return;
  }
}

void advise_on_adaptive_coefficients(const MoeConfig& moe, Remarks& remarks) {
  for (const BalanceConfig& balance : moe.balance) {
    if (balance.adaptive.rate == 0 || moe.capacity.factor || moe.capacity.device_factor) continue;
    remarks.push_back(
        "`moe.balance.adaptive` follows the dropped tokens, and without a capacity none is "
        "dropped: the coefficient only falls");
  }
}

void advise_on_steps(const RunConfig& config, Remarks& remarks) {
  const int64_t steps = config.train.steps;
  if (steps > 0 && config.optim.schedule.warmup_steps >= steps) {
    remarks.push_back(
        "`optim.schedule.warmup_steps` " + std::to_string(config.optim.schedule.warmup_steps) +
        " is not below `train.steps` " + std::to_string(steps) + ": the learning rate only rises");
  }
}

}  // namespace

std::vector<std::string> advice(const RunConfig& config) {
  Remarks remarks;
  const bool has_moe =
      !choose_layers(config.moe.layers, config.model.num_hidden_layers).layers.empty();
  if (has_moe) {
    advise_on_layout(config.moe, remarks);
    advise_on_router(config.moe, remarks);
    advise_on_balance(config.moe, remarks);
    advise_on_losses_without_effect(config.moe, remarks);
    advise_on_adaptive_coefficients(config.moe, remarks);
  } else if (config.parallel.expert > 1) {
    remarks.push_back("`parallel.expert` " + std::to_string(config.parallel.expert) +
                      " has no effect without MoE layers (`moe.layers` " + config.moe.layers + ")");
  }
  advise_on_steps(config, remarks);
  return remarks;
}

}  // namespace switchyard
