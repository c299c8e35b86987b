#include <gtest/gtest.h>

#include "config/causality.h"
#include "config/check.h"
#include "expect_complaints.h"

namespace switchyard {
namespace {

TEST(CheckRouting, ExpertsPerToken) {
  expect_all({
      {"moe: {router: {type: switch}}\n", 0,
       "run.yaml:1: `moe.top_k` 2 with `moe.router.type` switch, which needs 1; use 1, or type "
       "topk"},
      {"moe: {top_k: 1,\n  router: {type: gshard}}\n", 0,
       "run.yaml:1: `moe.top_k` 1 with `moe.router.type` gshard, which needs 2; use 2, or type "
       "topk"},
      {"moe: {router: {type: domain}}\n", 0,
       "run.yaml:1: `moe.top_k` 2 with `moe.router.type` domain, which needs 1; use 1, or type "
       "topk"},
  });
}

TEST(CheckRouting, ExpertGroups) {
  expect_all({
      {"moe: {router: {n_group: 3}}\n", 0,
       "run.yaml:1: `moe.router.n_group` 3 does not divide `moe.num_experts` 8; use 1, 2, 4 or 8"},
      {"moe: {router: {n_group: 2, topk_group: 3}}\n", 0,
       "run.yaml:1: `moe.router.topk_group` 3 is more than `moe.router.n_group` 2; use at most 2"},
      {"moe: {top_k: 5, router: {n_group: 4, topk_group: 2}}\n", 0,
       "run.yaml:1: `moe.router.topk_group` 2 groups of 2 experts hold fewer than `moe.top_k` 5; "
       "use at least 3 groups"},
      {"moe: {top_k: 1, router: {n_group: 8}}\n", 0,
       "run.yaml:1: `moe.router.group_score` top2_sum needs 2 experts per group and "
       "`moe.router.n_group` 8 leaves one; use max, or fewer groups"},
      {"moe: {top_k: 1, router: {n_group: 8, group_score: max}}\n", 0, ""},
      {"moe: {router: {n_group: 4, topk_group: 2}}\n", 0, ""},
  });
}

TEST(CheckRouting, Causality) {
  expect_all({
      {"moe: {capacity: {factor: 1.25, priority: choice}}\n", 0,
       "run.yaml:1: `moe.capacity.priority` choice with a capacity lets later tokens push out "
       "earlier ones; use position, no capacity (`factor: null`, `eval_factor: null`), or "
       "`moe.allow_noncausal: true` to accept it"},
      {"moe: {capacity: {eval_factor: 2, priority: random}}\n", 0,
       "run.yaml:1: `moe.capacity.priority` random with a capacity lets later tokens push out "
       "earlier ones; use position, no capacity (`factor: null`, `eval_factor: null`), or "
       "`moe.allow_noncausal: true` to accept it"},
      {"moe:\n  router: {type: gshard}\n  capacity: {factor: 2}\n", 0,
       "run.yaml:2: `moe.router.type` gshard with a capacity gives first choices their slots "
       "before second ones, so that later tokens push out earlier ones; use no capacity "
       "(`factor: null`, `eval_factor: null`), or `moe.allow_noncausal: true` to accept it"},
      {"moe: {allow_noncausal: true, capacity: {factor: 1, priority: probability}}\n", 0, ""},
      {"moe: {capacity: {priority: probability}}\n", 0, ""},
      {"moe: {capacity: {factor: 1.25}, group_sequences: 2}\n", 0,
       "run.yaml:1: `moe.group_sequences` 2 with a capacity shares out slots over several "
       "sequences, so that one pushes out tokens of another; use 1, no capacity (`factor: null`, "
       "`eval_factor: null`), or `moe.allow_noncausal: true` to accept it"},
      {"moe: {capacity: {eval_factor: 1.25}, group_sequences: 2}\n", 0, ""},
      {"moe: {capacity: {factor: 1.25, scope: rank}}\n", 0,
       "run.yaml:1: `moe.capacity.scope` rank shares out slots over several sequences, so that one "
       "pushes out tokens of another; use group, no capacity (`factor: null`, `eval_factor: "
       "null`), or `moe.allow_noncausal: true` to accept it"},
      {"moe: {capacity: {device_factor: 1}, router: {n_group: 2, topk_group: 1}}\n", 0,
       "run.yaml:1: `moe.capacity.device_factor` drops the least probable choices of a routing "
       "group, so that later tokens push out earlier ones; use null, or `moe.allow_noncausal: "
       "true` to accept it"},
      {"moe: {router: {type: gshard}}\n", 0, ""},
  });
}

TEST(CheckRouting, RoutersThatDecideOverAGroup) {
  for (const std::string type : {"expert_choice", "base", "sinkhorn", "sparse_ot"}) {
    const std::string yaml = "moe: {top_k: 1, router: {type: " + type + "}";
    EXPECT_EQ(complaint(yaml + "}\n"),
              "run.yaml:1: `moe.router.type` " + type +
                  " decides over all tokens of a routing group together, so that later tokens "
                  "change what happens to earlier ones; use another router, or "
                  "`moe.allow_noncausal: true` to accept it");
    EXPECT_EQ(complaint(yaml + ", allow_noncausal: true}\n"), "");
  }
}

TEST(CheckRouting, TheGuardOfEvaluationKnowsWhatIsAtWorkThere) {
  MoeConfig moe;
  const auto at_work = [&] { return cross_token_evaluation(moe).size(); };
  EXPECT_EQ(at_work(), 0U);
  for (const char* type : {"base", "sinkhorn"}) {
    moe.router.type = type;
    EXPECT_EQ(at_work(), 0U) << type;  // they choose the best expert there
    EXPECT_EQ(cross_token_training(moe).size(), 1U) << type;
  }
  for (const char* type : {"expert_choice", "sparse_ot"}) {
    moe.router.type = type;
    EXPECT_EQ(at_work(), 1U) << type;
  }
  moe.router.type = "topk";
  moe.capacity.factor = 1;
  moe.capacity.priority = "choice";
  EXPECT_EQ(at_work(), 0U);  // evaluation is dropless
  moe.capacity.eval_factor = 1;
  EXPECT_EQ(at_work(), 1U);
  moe.capacity.priority = "position";
  moe.group_sequences = 2;
  EXPECT_EQ(at_work(), 0U);  // there a group is one sequence
}

TEST(CheckRouting, NoisyTopK) {
  const std::string type = "moe: {top_k: 2, router: {type: noisy_topk, noisy_topk: ";
  expect_all({
      {type + "{groups: 3}}}\n", 0,
       "run.yaml:1: `moe.router.noisy_topk.groups` 3 does not divide `moe.num_experts` 8; use 1, "
       "2, 4 or 8"},
      {type + "{groups: 2, groups_per_token: 4}}}\n", 0,
       "run.yaml:1: `moe.router.noisy_topk.groups_per_token` 4 is more than "
       "`moe.router.noisy_topk.groups` 2; use at most 2"},
      {"moe: {top_k: 3, router: {type: noisy_topk, noisy_topk: {groups: 4, groups_per_token: "
       "2}}}\n",
       0,
       "run.yaml:1: `moe.top_k` 3 is not a multiple of `moe.router.noisy_topk.groups_per_token` 2, "
       "and each group gives as many experts; use 2 or 4"},
      {type + "{groups: 8}}}\n", 0,
       "run.yaml:1: `moe.top_k` 2 takes 2 experts of each group of 1; use at most 1"},
      {type + "{groups: 4, groups_per_token: 2}}}\n", 0, ""},
  });
}

TEST(CheckRouting, Options) {
  expect_all({
      {"moe: {router: {type: group_limited}}\n", 0,
       "run.yaml:1: `moe.router.type` group_limited needs groups of experts; set "
       "`moe.router.n_group` above 1 and `moe.router.topk_group` to how many of them a token may "
       "use"},
      {"moe: {router: {type: hash}}\n", 0,
       "(default): `moe.router.hash.parts` 1 chooses as many experts and `moe.top_k` is 2; make "
       "them equal"},
      {"moe: {top_k: 3, router: {type: hash, hash: {parts: 3}}}\n", 0,
       "run.yaml:1: `moe.router.hash.parts` 3 does not divide `moe.num_experts` 8; use 1, 2, 4 or "
       "8"},
      {"moe: {top_k: 1, router: {type: sequence}}\n", 0,
       "run.yaml:1: `moe.router.type` sequence mixes its expert with the shared experts, and there "
       "are none; set `moe.shared_experts.num`"},
      {"moe: {router: {reroute_choices: 4}}\n", 0,
       "run.yaml:1: `moe.router.reroute_choices` finds another expert for a token that got no "
       "slot, and without a capacity all get one; set `moe.capacity.factor`, or use 0"},
      {"moe: {router: {reroute_choices: 7}, capacity: {factor: 1}}\n", 0,
       "run.yaml:1: `moe.router.reroute_choices` 7 is more than the experts beside `moe.top_k`; "
       "use at most 6"},
      {"moe: {allow_noncausal: true, capacity: {device_factor: 1}}\n", 0,
       "run.yaml:1: `moe.capacity.device_factor` is a budget of each of the `moe.router.n_group` "
       "groups of experts, and there is one group; set n_group, or use `moe.capacity.factor`"},
  });
}

TEST(CheckRouting, BalanceLosses) {
  expect_all({
      {"moe: {balance: {type: importance, scope: global_lagged}}\n", 0,
       "run.yaml:1: `moe.balance.scope` global_lagged takes the step before's counts, and "
       "`importance` is no function of those; use group, or global"},
      {"moe: {balance: {type: communication, scope: global_lagged}, router: {n_group: 2}}\n", 0,
       "run.yaml:1: `moe.balance.scope` global_lagged takes the step before's counts, and "
       "`communication` is no function of those; use group, or global"},
      {"moe: {balance: [{type: switch}, {type: sequence, scope: global}]}\n", 0,
       "run.yaml:1: `moe.balance[1].scope` global with type sequence, which is taken over each "
       "sequence; use group, or type topk"},
      {"moe: {balance: {type: device}}\n", 0,
       "run.yaml:1: `moe.balance.type` device balances the `moe.router.n_group` groups of experts, "
       "and there is one group; set n_group, or use type expert"},
      {"moe: {balance: {type: load}}\n", 0,
       "run.yaml:1: `moe.balance.type` load needs a router with noise on its logits; use "
       "`moe.router.type` noisy_topk, or topk with `moe.router.noise_std` above 0"},
      {"moe: {balance: {type: load}, router: {noise_std: 0.1}}\n", 0, ""},
      {"moe: {balance: {domain: 0}}\n", 0,
       "run.yaml:1: `moe.balance.domain` is for the types local_entropy and global_entropy, not "
       "`switch`; leave it out"},
      {"moe: {balance: {type: global_entropy, domain: 0, scope: global}}\n", 0, ""},
  });
}

}  // namespace
}  // namespace switchyard
