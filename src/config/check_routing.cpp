#include <algorithm>
#include <functional>
#include <set>

#include "config/alternatives.h"
#include "config/causality.h"
#include "config/check.h"
#include "config/join.h"
#include "config/router_family.h"

namespace switchyard {
namespace {

std::string text(int64_t number) { return std::to_string(number); }

class RoutingChecker {
 public:
  RoutingChecker(const MoeConfig& moe, const std::function<bool(const std::string&)>& known)
      : moe_(moe), known_(known) {}

  std::vector<Complaint> check() && {
    check_choices();
    check_router_groups();
    check_noisy_topk();
    check_hash();
    check_sequence();
    check_reroute();
    check_device_budget();
    for (size_t i = 0; i < moe_.balance.size(); ++i) check_balance(moe_.balance[i], i);
    check_causality();
    return std::move(complaints_);
  }

 private:
  bool know(std::initializer_list<std::string> keys) const {
    return std::all_of(keys.begin(), keys.end(), known_);
  }

  void complain(std::vector<std::string> keys, std::string text_) {
    complaints_.push_back({std::move(keys), std::move(text_)});
  }

  /// Routers of a fixed number of experts per token.
  int64_t choices_of_type() const {
    const std::string& type = moe_.router.type;
    static const std::set<std::string> one = {"switch", "base", "reinforce", "domain", "sequence"};
    return one.contains(type) ? 1 : type == "gshard" ? 2 : 0;
  }

  void check_choices() {
    if (!know({"moe.router.type", "moe.top_k"})) return;
    const int64_t needed = choices_of_type();
    if (needed != 0 && moe_.top_k != needed) {
      complain({"moe.top_k", "moe.router.type"},
               "`moe.top_k` " + text(moe_.top_k) + " with `moe.router.type` " + moe_.router.type +
                   ", which needs " + text(needed) + "; use " + text(needed) + ", or type topk");
    }
  }

  void check_router_groups() {
    if (!know({"moe.router.n_group", "moe.router.topk_group", "moe.num_experts", "moe.top_k",
               "moe.router.group_score"})) {
      return;
    }
    const int64_t groups = moe_.router.n_group;
    const int64_t chosen = moe_.router.topk_group;
    if (know({"moe.router.type"}) && moe_.router.type == "group_limited" && groups == 1) {
      complain({"moe.router.n_group", "moe.router.type"},
               "`moe.router.type` group_limited needs groups of experts; set `moe.router.n_group` "
               "above 1 and `moe.router.topk_group` to how many of them a token may use");
    }
    if (groups > 1 && moe_.num_experts % groups != 0) {
      complain({"moe.router.n_group", "moe.num_experts"},
               "`moe.router.n_group` " + text(groups) + " does not divide `moe.num_experts` " +
                   text(moe_.num_experts) + "; use " +
                   alternatives(divisors_near(moe_.num_experts, groups)));
    } else if (chosen > groups) {
      complain({"moe.router.topk_group", "moe.router.n_group"},
               "`moe.router.topk_group` " + text(chosen) + " is more than `moe.router.n_group` " +
                   text(groups) + "; use at most " + text(groups));
    } else if (groups > 1) {
      check_group_size(moe_.num_experts / groups);
    }
  }

  void check_group_size(int64_t experts_per_group) {
    const int64_t reachable = moe_.router.topk_group * experts_per_group;
    if (reachable < moe_.top_k) {
      complain({"moe.router.topk_group", "moe.router.n_group", "moe.top_k"},
               "`moe.router.topk_group` " + text(moe_.router.topk_group) + " groups of " +
                   text(experts_per_group) + " experts hold fewer than `moe.top_k` " +
                   text(moe_.top_k) + "; use at least " +
                   text((moe_.top_k + experts_per_group - 1) / experts_per_group) + " groups");
    }
    if (moe_.router.group_score == "top2_sum" && experts_per_group < 2) {
      complain({"moe.router.group_score", "moe.router.n_group"},
               "`moe.router.group_score` top2_sum needs 2 experts per group and "
               "`moe.router.n_group` " +
                   text(moe_.router.n_group) + " leaves one; use max, or fewer groups");
    }
  }

  void check_noisy_topk() {
    if (!know({"moe.router.type", "moe.router.noisy_topk.groups",
               "moe.router.noisy_topk.groups_per_token", "moe.num_experts", "moe.top_k"}) ||
        moe_.router.type != "noisy_topk") {
      return;
    }
    const int64_t groups = moe_.router.noisy_topk.groups;
    const int64_t first = moe_.router.noisy_topk.groups_per_token;
    const std::string key = "moe.router.noisy_topk.groups";
    const std::string per_token = "moe.router.noisy_topk.groups_per_token";
    if (moe_.num_experts % groups != 0) {
      complain({key, "moe.num_experts"}, "`" + key + "` " + text(groups) +
                                             " does not divide `moe.num_experts` " +
                                             text(moe_.num_experts) + "; use " +
                                             alternatives(divisors_near(moe_.num_experts, groups)));
    } else if (first > groups) {
      complain({per_token, key}, "`" + per_token + "` " + text(first) + " is more than `" + key +
                                     "` " + text(groups) + "; use at most " + text(groups));
    } else if (moe_.top_k % first != 0) {
      complain({"moe.top_k", per_token},
               "`moe.top_k` " + text(moe_.top_k) + " is not a multiple of `" + per_token + "` " +
                   text(first) + ", and each group gives as many experts; use " +
                   alternatives(multiples_near(first, moe_.top_k)));
    } else if (moe_.top_k / first > moe_.num_experts / groups) {
      complain({"moe.top_k", key}, "`moe.top_k` " + text(moe_.top_k) + " takes " +
                                       text(moe_.top_k / first) + " experts of each group of " +
                                       text(moe_.num_experts / groups) + "; use at most " +
                                       text(first * (moe_.num_experts / groups)));
    }
  }

  void check_hash() {
    if (!know({"moe.router.type", "moe.router.hash.parts", "moe.top_k", "moe.num_experts"}) ||
        moe_.router.type != "hash") {
      return;
    }
    const int64_t parts = moe_.router.hash.parts;
    if (parts != moe_.top_k) {
      complain({"moe.router.hash.parts", "moe.top_k"},
               "`moe.router.hash.parts` " + text(parts) +
                   " chooses as many experts and `moe.top_k` is " + text(moe_.top_k) +
                   "; make them equal");
    } else if (moe_.num_experts % parts != 0) {
      complain({"moe.router.hash.parts", "moe.num_experts"},
               "`moe.router.hash.parts` " + text(parts) + " does not divide `moe.num_experts` " +
                   text(moe_.num_experts) + "; use " +
                   alternatives(divisors_near(moe_.num_experts, parts)));
    }
  }

  void check_sequence() {
    if (!know({"moe.router.type", "moe.shared_experts.num"}) || moe_.router.type != "sequence" ||
        moe_.shared_experts.num > 0) {
      return;
    }
    complain({"moe.router.type", "moe.shared_experts.num"},
             "`moe.router.type` sequence mixes its expert with the shared experts, and there are "
             "none; set `moe.shared_experts.num`");
  }

  void check_reroute() {
    if (!know({"moe.router.type", "moe.router.reroute_choices", "moe.capacity.factor", "moe.top_k",
               "moe.num_experts"}) ||
        moe_.router.reroute_choices == 0 || !is_topk_family(moe_.router.type)) {
      return;
    }
    const int64_t left = moe_.num_experts - moe_.top_k;
    if (moe_.router.reroute_choices > left) {
      complain({"moe.router.reroute_choices", "moe.num_experts"},
               "`moe.router.reroute_choices` " + text(moe_.router.reroute_choices) +
                   " is more than the experts beside `moe.top_k`; use at most " + text(left));
    } else if (!moe_.capacity.factor) {
      complain({"moe.router.reroute_choices", "moe.capacity.factor"},
               "`moe.router.reroute_choices` finds another expert for a token that got no slot, "
               "and without a capacity all get one; set `moe.capacity.factor`, or use 0");
    }
  }

  void check_device_budget() {
    if (!know({"moe.capacity.device_factor", "moe.router.n_group"}) ||
        !moe_.capacity.device_factor || moe_.router.n_group > 1) {
      return;
    }
    complain({"moe.capacity.device_factor", "moe.router.n_group"},
             "`moe.capacity.device_factor` is a budget of each of the `moe.router.n_group` groups "
             "of experts, and there is one group; set n_group, or use `moe.capacity.factor`");
  }

  void check_balance(const BalanceConfig& balance, size_t index) {
    const std::string item = item_key("moe.balance", index, moe_.balance.size());
    if (!know({item + ".type", item + ".scope"})) return;
    static const std::set<std::string> not_of_counts = {
        "importance",         "load",         "entropy", "global_entropy", "mean_importance",
        "mutual_information", "communication"};
    const std::string& type = balance.type;
    const bool is_of_counts =
        !not_of_counts.contains(type) && !(type == "local_entropy" && balance.domain);
    if (!is_of_counts && balance.scope == "global_lagged") {
      complain({item + ".scope", item + ".type"},
               "`" + item + ".scope` global_lagged takes the step before's counts, and `" + type +
                   "` is no function of those; use group, or global");
    }
    if (type == "sequence" && balance.scope != "group") {
      complain({item + ".scope", item + ".type"},
               "`" + item + ".scope` " + balance.scope +
                   " with type sequence, which is taken over each sequence; use group, or type "
                   "topk");
    }
    if (know({"moe.router.n_group"}) && (type == "device" || type == "communication") &&
        moe_.router.n_group == 1) {
      complain({item + ".type", "moe.router.n_group"},
               "`" + item + ".type` " + type +
                   " balances the `moe.router.n_group` groups of experts, and there is one group; "
                   "set n_group, or use type expert");
    }
    if (type == "load") check_load(item);
    if (balance.domain && type != "local_entropy" && type != "global_entropy") {
      complain({item + ".domain", item + ".type"},
               "`" + item + ".domain` is for the types local_entropy and global_entropy, not `" +
                   type + "`; leave it out");
    }
  }

  void check_load(const std::string& item) {
    if (!know({"moe.router.type", "moe.router.noise_std"})) return;
    const std::string& type = moe_.router.type;
    const bool is_smooth =
        type == "noisy_topk" || (is_topk_family(type) && moe_.router.noise_std > 0);
    if (is_smooth) return;
    complain({item + ".type", "moe.router.type"},
             "`" + item +
                 ".type` load needs a router with noise on its logits; use "
                 "`moe.router.type` noisy_topk, or topk with `moe.router.noise_std` above 0");
  }

  void check_causality() {
    if (!know({"moe.allow_noncausal", "moe.capacity.factor", "moe.capacity.eval_factor",
               "moe.capacity.priority", "moe.capacity.scope", "moe.capacity.device_factor",
               "moe.router.type", "moe.group_sequences"}) ||
        moe_.allow_noncausal) {
      return;
    }
    std::vector<CrossTokenSetting> settings = cross_token_training(moe_);
    for (CrossTokenSetting& setting : cross_token_evaluation(moe_)) {
      const bool is_known = std::ranges::any_of(
          settings, [&](const CrossTokenSetting& one) { return one.text == setting.text; });
      if (!is_known) settings.push_back(std::move(setting));
    }
    for (CrossTokenSetting& setting : settings) {
      complain(std::move(setting.keys), setting.text + "; " + setting.way_out +
                                            ", or `moe.allow_noncausal: true` to accept it");
    }
  }

  const MoeConfig& moe_;
  const std::function<bool(const std::string&)>& known_;
  std::vector<Complaint> complaints_;
};

}  // namespace

std::vector<Complaint> check_routing(const MoeConfig& moe,
                                     const std::function<bool(const std::string&)>& known) {
  return RoutingChecker(moe, known).check();
}

}  // namespace switchyard
