#include <gtest/gtest.h>

#include "config/load_config.h"

namespace switchyard {
namespace {

/// One remark for each part, in this order, that contains it.
void expect_remarks(const RunConfig& config, const std::vector<std::string>& parts) {
  const std::vector<std::string> remarks = advice(config);
  ASSERT_EQ(remarks.size(), parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    EXPECT_NE(remarks[i].find(parts[i]), std::string::npos) << remarks[i];
  }
}

TEST(Advice, HasNothingToSayAboutDefaults) {
  const RunConfig defaults;
  expect_remarks(defaults, {});
}

TEST(Advice, TellsThatOneNormalizedWeightHasNoGradient) {
  RunConfig config;
  config.moe.top_k = 1;
  expect_remarks(config, {"gives the router no gradient"});
  config.moe.router.type = "switch";
  expect_remarks(config, {});
}

TEST(Advice, NamesWhatDependsOnTheLayout) {
  RunConfig config;
  config.moe.capacity.scope = "rank";
  config.moe.balance[0].scope = "micro_batch";
  expect_remarks(config, {"`moe.balance.scope` micro_batch is layout-dependent"});
  config.moe.capacity.factor = 1.0;
  expect_remarks(config, {"`moe.capacity.scope` rank is layout-dependent",
                          "`moe.balance.scope` micro_batch is layout-dependent"});
}

TEST(Advice, NamesWhatHasNoEffect) {
  RunConfig config;
  config.moe.router.type = "gshard";
  config.moe.router.score = "sigmoid";
  config.moe.router.n_group = 2;
  expect_remarks(config,
                 {"`moe.router.score` has no effect", "`moe.router.n_group` has no effect"});
}

TEST(Advice, WarnsOfCollapseAndOfEndlessWarmUp) {
  RunConfig config;
  config.moe.balance.clear();
  config.train.steps = 50;
  expect_remarks(config, {"nothing balances the experts", "the learning rate only rises"});
  config.moe.router.selection_bias = true;
  config.train.steps = 51;
  expect_remarks(config, {});
}

TEST(Advice, LeavesDenseModelsAlone) {
  RunConfig config;
  config.moe.layers = "none";
  config.moe.balance.clear();
  expect_remarks(config, {});
  config.parallel.expert = 2;
  expect_remarks(config, {"has no effect without MoE layers"});
}

}  // namespace
}  // namespace switchyard
