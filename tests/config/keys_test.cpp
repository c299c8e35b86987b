#include "config/keys.h"

#include <gtest/gtest.h>

#include <set>

namespace switchyard {
namespace {

TEST(Keys, AreUniqueAndHoldTheContract) {
  std::set<std::string> paths;
  for (const Key& key : all_keys()) EXPECT_TRUE(paths.insert(key.path()).second) << key.path();
  for (const char* path :
       {"run.seed", "data.path", "data.path.weight", "model.rms_norm_eps", "moe.router.jitter_eps",
        "moe.capacity.multiple_of", "moe.balance.layer_reduce", "moe.shared_experts.gated",
        "optim.lr_scale", "optim.schedule.min_lr_ratio", "train.check_replicas_interval",
        "checkpoint.load_from", "watchdog.timeout_seconds", "watchdog.save_timeout_seconds"}) {
    EXPECT_TRUE(paths.contains(path)) << path;
  }
}

TEST(Keys, SuggestTheNearestOfTheSection) {
  EXPECT_EQ(suggest_key("model", "hiden_size").text, "; did you mean `model.hidden_size`?");
  EXPECT_EQ(suggest_key("train", "step").text, "; did you mean `train.steps`?");
  EXPECT_EQ(suggest_key("", "optimizer").text, "; did you mean `optim`?");
  EXPECT_EQ(suggest_key("moe", "topk").meant, "moe.top_k");
}

TEST(Keys, SayWhereAKeyBelongs) {
  EXPECT_EQ(suggest_key("model", "top_k").text, "; it belongs to `moe`: write `moe.top_k`");
  EXPECT_EQ(suggest_key("", "lr").text, "; it belongs to `optim`: write `optim.lr`");
  EXPECT_EQ(suggest_key("moe", "coef").text,
            "; it belongs to `moe.balance` or `moe.z_loss`: write `moe.balance.coef`");
  EXPECT_EQ(suggest_key("train", "zero").text, "; it belongs to the top level: write `zero`");
}

TEST(Keys, LookBeyondTheSection) {
  EXPECT_EQ(suggest_key("model", "num_expert").text, "; did you mean `moe.num_experts`?");
}

TEST(Keys, KnowWhatOthersCallThem) {
  EXPECT_EQ(suggest_key("moe", "num_experts_per_tok").text, "; here it is `moe.top_k`");
  EXPECT_EQ(suggest_key("optim", "learning_rate").text, "; here it is `optim.lr`");
  EXPECT_EQ(suggest_key("moe", "moe_intermediate_size").meant, "moe.expert_intermediate_size");
}

TEST(Keys, ListTheSectionWhenNothingIsNear) {
  EXPECT_EQ(suggest_key("zero", "frobnicate").text, "; `zero` has stage");
  EXPECT_EQ(suggest_key("parallel", "frobnicate").text,
            "; `parallel` has expert, order, overlap_chunks, overlap_grad_reduce, "
            "overlap_param_gather, gpu_transport");
}

}  // namespace
}  // namespace switchyard
