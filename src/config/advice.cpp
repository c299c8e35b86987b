#include "config/layers.h"
#include "config/load_config.h"

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

void advise_on_gshard(const RouterConfig& router, Remarks& remarks) {
  const auto remark = [&](const std::string& key) {
    remarks.push_back("`moe.router." + key + "` has no effect with type gshard");
  };
  if (router.score != "softmax") remark("score");
  if (router.scaling_factor != 1) remark("scaling_factor");
  if (router.selection_bias) remark("selection_bias");
  if (router.n_group > 1) remark("n_group");
}

void advise_on_router(const MoeConfig& moe, Remarks& remarks) {
  const RouterConfig& router = moe.router;
  if (router.type == "topk" && router.normalize && moe.top_k == 1) {
    remarks.push_back(
        "`moe.router.normalize` with `moe.top_k` 1 makes every weight 1: the language-model loss "
        "gives the router no gradient; set normalize to false, or type to switch");
  }
  if (router.type == "gshard") advise_on_gshard(router, remarks);
  if (router.selection_bias && router.bias_update_rate == 0) {
    remarks.push_back("`moe.router.bias_update_rate` 0 leaves `moe.router.selection_bias` at 0");
  }
}

void advise_on_balance(const MoeConfig& moe, Remarks& remarks) {
  bool is_balanced = moe.router.selection_bias && moe.router.type != "gshard";
  for (const BalanceConfig& balance : moe.balance) is_balanced |= balance.coef > 0;
  if (!is_balanced && moe.num_experts > 1) {
    remarks.push_back(
        "nothing balances the experts (no `moe.balance` with a coef above 0, no "
        "`moe.router.selection_bias`): the router may collapse onto a few");
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
  } else if (config.parallel.expert > 1) {
    remarks.push_back("`parallel.expert` " + std::to_string(config.parallel.expert) +
                      " has no effect without MoE layers (`moe.layers` " + config.moe.layers + ")");
  }
  advise_on_steps(config, remarks);
  return remarks;
}

}  // namespace switchyard
