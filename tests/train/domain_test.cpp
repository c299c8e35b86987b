#include "train/domain.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace switchyard {
namespace {

RunConfig config_of(const std::string& router, int64_t num_experts) {
  RunConfig config;
  config.data.path = {{"data/novels", 1.0, "prose"}, {"data/plays/", 1.0, ""}, {"1", 1.0, ""}};
  config.moe.num_experts = num_experts;
  config.moe.top_k = 1;
  config.moe.router.type = router;
  return config;
}

TEST(DomainTest, P1_MoreDomainsThanExpertsAreRefused) {
  EXPECT_NO_THROW(check_domains(config_of("domain", 3)));
  EXPECT_THROW(check_domains(config_of("domain", 2)), ConfigError);
  EXPECT_NO_THROW(check_domains(config_of("topk", 2)));
  RunConfig dense = config_of("domain", 2);
  dense.moe.layers = "none";
  EXPECT_NO_THROW(check_domains(dense));
}

TEST(DomainTest, P5_MoreDomainsThanClustersAreRefused) {
  RunConfig config = config_of("sequence", 2);
  config.moe.router.sequence.clusters = 3;
  EXPECT_NO_THROW(check_domains(config));
  config.moe.router.sequence.clusters = 2;
  EXPECT_THROW(check_domains(config), ConfigError);
}

TEST(DomainTest, P1_ADomainIsNamedOrCounted) {
  const RunConfig config = config_of("domain", 4);
  EXPECT_EQ(parse_domain("prose", config), 0);
  EXPECT_EQ(parse_domain("plays", config), 1);
  EXPECT_EQ(parse_domain("0", config), 0);
  EXPECT_EQ(parse_domain("1", config), 2);  // a name comes before a number
  for (const char* text : {"", "3", "-1", "novels", "0x", "1 ", "poems"}) {
    EXPECT_THROW(parse_domain(text, config), ConfigError) << text;
  }
  try {
    parse_domain("poems", config);
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(),
                 "--domain: `poems` is no domain of this model; it has 0 (prose), 1 (plays), "
                 "2 (1)");
  }
}

TEST(DomainTest, P1_OnlyRoutersThatChooseByItNeedADomain) {
  EXPECT_THROW(require_domain(config_of("domain", 4), std::nullopt), ConfigError);
  EXPECT_THROW(require_domain(config_of("sequence", 4), std::nullopt), ConfigError);
  EXPECT_NO_THROW(require_domain(config_of("domain", 4), 0));
  EXPECT_NO_THROW(require_domain(config_of("topk", 4), std::nullopt));
}

}  // namespace
}  // namespace switchyard
