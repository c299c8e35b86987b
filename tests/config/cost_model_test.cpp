#include "config/cost_model.h"

#include <gtest/gtest.h>

#include "config_folder.h"

namespace switchyard {
namespace {

constexpr const char* kCosts = R"(machine: a machine of two cores
fitted: by hand
cores: 2
ranks_per_host: 2
fp32: {peak_gflops: 100, products_gflops: 80, scores_giga_per_second: 0.5,
       activations_gbytes_per_second: 4, weights_gbytes_per_second: null, layer_us: 250}
bf16: {peak_gflops: 200, products_gflops: 160, scores_giga_per_second: 1,
       activations_gbytes_per_second: 5, weights_gbytes_per_second: 10, layer_us: 0}
optimizer_gbytes_per_second: 8
host: {latency_us: 20, exchange_gbytes_per_second: 5, reduction_gbytes_per_second: 2}
network: {latency_us: 5, gbytes_per_second: 12.5}
)";

std::string with(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

CostModel load(const std::string& text) {
  const ConfigFolder folder;
  folder.write("costs.yaml", text);
  return load_cost_model(folder / "costs.yaml");
}

std::string complaint_about(const std::string& text) {
  const ConfigFolder folder;
  folder.write("costs.yaml", text);
  try {
    load_cost_model(folder / "costs.yaml");
    return "";
  } catch (const ConfigError& error) {
    return folder.without_path(error.what());
  }
}

TEST(CostModel, RatesBecomeSeconds) {
  const CostModel costs = load(kCosts);
  EXPECT_EQ(costs.machine, "a machine of two cores");
  EXPECT_EQ(costs.fitted, "by hand");
  EXPECT_EQ(costs.cores, 2);
  EXPECT_EQ(costs.ranks_per_host, 2);
  EXPECT_DOUBLE_EQ(costs.fp32.peak_flops, 100e9);
  EXPECT_DOUBLE_EQ(costs.fp32.flop, 1 / 80e9);
  EXPECT_DOUBLE_EQ(costs.fp32.score, 2e-9);
  EXPECT_DOUBLE_EQ(costs.fp32.activation_byte, 0.25e-9);
  EXPECT_EQ(costs.fp32.weight_byte, 0) << "null: free";
  EXPECT_DOUBLE_EQ(costs.fp32.layer, 250e-6);
  EXPECT_DOUBLE_EQ(costs.bf16.weight_byte, 0.1e-9);
  EXPECT_EQ(costs.bf16.layer, 0);
  EXPECT_DOUBLE_EQ(costs.optimizer_byte, 0.125e-9);
  EXPECT_DOUBLE_EQ(costs.host.message, 20e-6);
  EXPECT_DOUBLE_EQ(costs.host.exchange_byte, 0.2e-9);
  EXPECT_DOUBLE_EQ(costs.host.reduction_byte, 0.5e-9);
  ASSERT_TRUE(costs.network);
  EXPECT_DOUBLE_EQ(costs.network->message, 5e-6);
  EXPECT_DOUBLE_EQ(costs.network->exchange_byte, 0.08e-9);
  EXPECT_DOUBLE_EQ(costs.network->reduction_byte, 0.08e-9);
}

TEST(CostModel, ANetworkMayBeLeftOut) {
  EXPECT_FALSE(load(with(kCosts, "network: {latency_us: 5, gbytes_per_second: 12.5}\n", ""))
                   .network.has_value());
}

TEST(CostModel, AFileMayExtendAnother) {
  const ConfigFolder folder;
  folder.write("costs.yaml", kCosts);
  folder.write("faster.yaml", "extends: costs.yaml\nnetwork: {latency_us: 2}\n");
  EXPECT_DOUBLE_EQ(load_cost_model(folder / "faster.yaml").network->message, 2e-6);
}

TEST(CostModel, AllMistakesAreToldWithTheirLines) {
  std::string text = with(kCosts, "cores: 2", "cores: 0");
  text = with(text, "products_gflops: 80", "products_gflops: -1");
  text = with(text, "weights_gbytes_per_second: 10", "weights_gbytes: 10");
  text = with(text, "gbytes_per_second: 12.5", "gbytes_per_second: fast");
  EXPECT_EQ(complaint_about(text),
            "costs.yaml:3: `cores` must be an integer of at least 1, got `0`\n"
            "costs.yaml:5: `fp32.products_gflops` must be a rate above 0, or null for what costs "
            "nothing, got `-1`\n"
            "costs.yaml:7: `bf16.weights_gbytes_per_second` is missing; configs/bench/costs has "
            "complete files\n"
            "costs.yaml:8: unknown key `bf16.weights_gbytes`; did you mean "
            "`bf16.weights_gbytes_per_second`?\n"
            "costs.yaml:11: `network.gbytes_per_second` must be a rate above 0, or null for what "
            "costs nothing, got `fast`");
}

TEST(CostModel, OtherFilesAreRefused) {
  EXPECT_NE(complaint_about("data: {path: x}\n").find("costs.yaml:1: `machine` is missing"),
            std::string::npos);
  EXPECT_NE(complaint_about("- 1\n").find("costs.yaml:1: a config is a mapping"),
            std::string::npos);
  EXPECT_NE(complaint_about(with(kCosts, "host: {latency_us: 20, ", "host: 1 #"))
                .find("`host` must be a mapping, got `1`"),
            std::string::npos);
  EXPECT_NE(complaint_about("machine: {").find("not valid YAML"), std::string::npos);
  EXPECT_THROW(load_cost_model("/nowhere/costs.yaml"), DataError);
}

}  // namespace
}  // namespace switchyard
