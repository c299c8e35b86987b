#include "moe/routers/hash_router.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cctype>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, P parts, V vocabulary.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kVocabulary = 64;
const char* const kMethods[] = {"random", "balanced", "bigram", "previous", "position"};

RouterConfig hash(const std::string& method, int64_t parts = 1) {
  RouterConfig config;
  config.type = "hash";
  config.hash = {method, parts};
  return config;
}

RouterPlace place(int64_t num_experts, int64_t parts = 1, int64_t layer = 0) {
  RouterPlace place = place_of(/*hidden_size=*/4, num_experts, parts);
  place.vocab_size = kVocabulary;
  place.layer = layer;
  return place;
}

RouterTensors start_of(const Router& router) {
  RouterTensors tensors;
  for (auto& [name, tensor] : router.initial_state()) tensors.state.push_back(tensor);
  return tensors;
}

/// Context of random sequences with their tokens before.
TokenContext text(int64_t sequences, int64_t length, const char* name = "tokens") {
  TokenContext context = context_of(sequences, length);
  const Tensor tokens_BS =
      (normal_tensor({sequences, length}, name).abs() * 40).to(at::kLong).remainder(kVocabulary);
  context.tokens_T = tokens_BS.flatten();
  context.previous_T = at::cat({at::full({sequences, 1}, -1, at::kLong), tokens_BS}, 1)
                           .narrow(1, 0, length)
                           .flatten();
  return context;
}

Tensor route(const Router& router, const TokenContext& context) {
  return router.route(at::zeros({context.tokens_T.size(0), 4}), start_of(router), context)
      .experts_TK;
}

/// What a method hashes of token t.
std::pair<int64_t, int64_t> key_of(const std::string& method, const TokenContext& context,
                                   int64_t t) {
  const int64_t token = context.tokens_T[t].item<int64_t>(),
                before = context.previous_T[t].item<int64_t>();
  if (method == "bigram") return {before, token};
  if (method == "previous") return {before, 0};
  if (method == "position") return {t % context.tokens_per_sequence, 0};
  return {token, 0};
}

TEST(HashRouterTest, R4_TheSameKeyHasTheSameExpertEverywhere) {
  const TokenContext first = text(50, 20, "some"), second = text(30, 20, "others");
  for (const char* method : kMethods) {
    SCOPED_TRACE(method);
    std::map<std::pair<int64_t, int64_t>, int64_t> expert_of;
    std::map<int64_t, int64_t> times;
    for (const TokenContext& context : {first, second}) {
      const HashRouter router(hash(method), place(8));  // each time anew: no state, no seed
      const Tensor experts_TK = route(router, context);
      for (int64_t t = 0; t < experts_TK.size(0); ++t) {
        const int64_t expert = experts_TK[t][0].item<int64_t>();
        EXPECT_EQ(expert_of.emplace(key_of(method, context, t), expert).first->second, expert);
        times[expert] += 1;
      }
    }
    EXPECT_EQ(times.size(), 8U) << "an expert is never chosen";
  }
}

TEST(HashRouterTest, R4_ReadsItsTableAndNothingElse) {
  const TokenContext context = text(10, 12);
  const HashRouter router(hash("random", 2), place(8, 2));
  for (int64_t c = 0; c < 100; ++c) {
    const std::string name = "table " + std::to_string(c);
    const Tensor low_V = (normal_tensor({kVocabulary}, name).abs() * 100).to(at::kLong) % 4;
    const Tensor high_V = (normal_tensor({kVocabulary}, name + "b").abs() * 100).to(at::kLong) % 4;
    const Tensor table_PV = at::stack({low_V, 4 + high_V}).to(at::kFloat);
    const Routing routing =
        router.route(normal_tensor({120, 4}, name, at::kFloat), {{}, {table_PV}}, context);
    const Tensor expected_TK = at::stack(
        {low_V.index_select(0, context.tokens_T), 4 + high_V.index_select(0, context.tokens_T)}, 1);
    EXPECT_TRUE(same(routing.experts_TK, expected_TK));
  }
}

TEST(HashRouterTest, R4_EveryPartGivesOneExpertOfItsBlockWithWeightOne) {
  for (const char* method : kMethods) {
    SCOPED_TRACE(method);
    const HashRouter router(hash(method, 4), place(8, 4));
    const Routing routing = router.route(at::zeros({200, 4}), start_of(router), text(10, 20));
    EXPECT_TRUE(
        same(at::floor_divide(routing.experts_TK, 2), at::arange(4, at::kLong).repeat({200, 1})));
    EXPECT_TRUE(same(routing.weights_TK, at::ones({200, 4})));
    EXPECT_TRUE(same(routing.logits_TE, at::zeros({200, 8})));
    EXPECT_TRUE(near(routing.probs_TE.sum(1), at::ones({200}), 1e-6));
    EXPECT_TRUE(near(routing.probs_TE.gather(1, routing.experts_TK), at::full({200, 4}, 0.25), 0));
    EXPECT_TRUE(routing.kept_TK.all().item<bool>());
    // The parts are hashes of their own.
    EXPECT_FALSE(at::equal(routing.experts_TK.select(1, 0), routing.experts_TK.select(1, 1) - 2));
  }
}

TEST(HashRouterTest, R4_TablesDifferByLayerAndNotByRun) {
  const auto table = [](int64_t layer) {
    return HashRouter(hash("random"), place(8, 1, layer)).initial_state()[0].second;
  };
  EXPECT_TRUE(same(table(3), table(3)));
  EXPECT_FALSE(at::equal(table(3), table(4)));
  TokenContext context = text(4, 8);
  const HashRouter router(hash("bigram"), place(8));
  const Tensor experts_TK = route(router, context);
  context.seed = 999;
  EXPECT_TRUE(same(route(router, context), experts_TK));
}

/// Words of a novel, numbered as they first occur, and how often each does.
Tensor word_counts() {
  const std::string text =
      read_file(std::string(SWITCHYARD_SOURCE_DIR) + "/tests/python/support/austen.txt");
  std::map<std::string, int64_t> ids;
  std::vector<int64_t> counts;
  std::string word;
  for (const char c : text + " ") {
    if (std::isalpha(static_cast<unsigned char>(c)) != 0) {
      word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else if (!word.empty()) {
      const auto [found, is_new] = ids.emplace(word, counts.size());
      if (is_new) counts.push_back(0);
      counts[found->second] += 1;
      word.clear();
    }
  }
  return at::tensor(counts, at::kLong);
}

/// Tokens that go to each expert with the balanced table of these counts.
Tensor loads(const Tensor& counts_V, int64_t num_experts, int64_t parts) {
  RouterPlace where = place(num_experts, parts);
  where.vocab_size = counts_V.size(0);
  const HashRouter router(hash("balanced", parts), where);
  EXPECT_TRUE(router.wants_token_counts());
  std::vector<Tensor> state = start_of(router).state;
  router.use_token_counts(counts_V, state);
  Tensor loads_E = at::zeros({num_experts}, at::kLong);
  for (int64_t p = 0; p < parts; ++p) loads_E.index_add_(0, state[0][p].to(at::kLong), counts_V);
  return loads_E;
}

TEST(HashRouterTest, R4_BalancedIsEvenOnRealCountsUpToTheMostFrequentToken) {
  const Tensor counts_V = word_counts();
  ASSERT_GT(counts_V.size(0), 1500);
  for (const auto& [E, P] : {std::pair{2, 1}, {8, 1}, {16, 1}, {64, 1}, {16, 2}, {32, 4}}) {
    const Tensor loads_E = loads(counts_V, E, P);
    const double even = counts_V.sum().item<double>() * P / E;
    const double top = counts_V.max().item<double>();
    EXPECT_EQ(loads_E.sum().item<int64_t>(), counts_V.sum().item<int64_t>() * P);
    EXPECT_LE(loads_E.max().item<double>(), std::max(1.05 * even, top)) << E << " in " << P;
  }
  // Below the limit of the most frequent word it is even, and random is not.
  EXPECT_LT(counts_V.max().item<double>(), counts_V.sum().item<double>() / 16);
  Tensor random_E = at::zeros({16}, at::kLong);
  RouterPlace where = place(16);
  where.vocab_size = counts_V.size(0);
  const Tensor table_V = HashRouter(hash("random"), where).initial_state()[0].second[0];
  random_E.index_add_(0, table_V.to(at::kLong), counts_V);
  EXPECT_GT(random_E.max().item<double>(), 1.1 * counts_V.sum().item<double>() / 16);
}

// Sorted: 9 (id 1), 7 (0), 5 (4), 4 (2), 3 (3), then those that never occur, 5 and on.
TEST(HashRouterTest, R4_BalancedByHand) {
  RouterPlace where = place(3);
  where.vocab_size = 8;
  const HashRouter router(hash("balanced"), where);
  std::vector<Tensor> state = start_of(router).state;
  router.use_token_counts(at::tensor({7, 9, 4, 3, 5, 0, 0, 0}, at::kLong), state);
  // Loads 9 7 5, +4: 9 7 9, +3: 9 10 9; the rest to the expert with the fewest tokens,
  // then the fewest ids (1 2 2), then the lower: 0, 0, 2.
  EXPECT_TRUE(same(state[0], at::tensor({1, 0, 2, 1, 2, 0, 0, 2}, at::kFloat).view({1, 8})));
}

TEST(HashRouterTest, R4_BalancedPartsArePartitionsOfTheirOwn) {
  RouterPlace where = place(8, 2);
  const Tensor counts_V = word_counts();
  where.vocab_size = counts_V.size(0);
  const HashRouter router(hash("balanced", 2), where);
  std::vector<Tensor> state = start_of(router).state;
  router.use_token_counts(counts_V, state);
  const Tensor first_V = state[0][0].to(at::kLong), second_V = state[0][1].to(at::kLong) - 4;
  const Tensor met_EE = at::bincount(first_V * 4 + second_V, {}, 16);
  EXPECT_GT(met_EE.min().item<int64_t>(), 0) << "two experts share no token";
}

TEST(HashRouterTest, R4_NoWeightsAndNoGradientAtTheRouter) {
  ModelConfig model = sample_model();
  model.vocab_size = kVocabulary;
  MoeConfig config = sample_moe_config(1);
  config.router = hash("random");
  const Mesh mesh = solo_mesh();
  SampleMoe moe(model, config, mesh);
  for (const PlacedPart& placed : moe.store.parts()) {
    EXPECT_NE(placed.part.name.find(".experts."), std::string::npos) << placed.part.name;
  }
  const NamedState state = moe.layer.state();
  ASSERT_EQ(state.size(), 1U);
  EXPECT_EQ(state[0].first, "mlp.gate.table");
  EXPECT_EQ(state[0].second.sizes(), (std::vector<int64_t>{1, kVocabulary}));
  Tensor x_TD = normal_tensor({40, 6}, "x", at::kFloat).set_requires_grad(true);
  const MoeOutput output = moe.layer.forward(x_TD, text(4, 10));
  EXPECT_FALSE(output.record.probs_TE.requires_grad());
  EXPECT_FALSE(output.record.logits_TE.requires_grad());
  output.y_TD.square().sum().backward();
  EXPECT_GT(x_TD.grad().abs().sum().item<float>(), 0);
  EXPECT_GT(moe.gradient("experts.0.up_proj.weight").abs().sum().item<float>(), 0);
}

TEST(HashRouterTest, R4_ThePartsOfAMultiHashAddUp) {
  ModelConfig model = sample_model();
  model.vocab_size = kVocabulary;
  MoeConfig config = sample_moe_config(2);
  config.router = hash("random", 2);
  const Mesh mesh = solo_mesh();
  SampleMoe moe(model, config, mesh);
  const Tensor x_TD = normal_tensor({40, 6}, "x", at::kFloat);
  const MoeOutput output = moe.layer.forward(x_TD, text(4, 10));
  Tensor expected_TD = at::zeros_like(x_TD);
  for (int64_t t = 0; t < 40; ++t) {
    for (int64_t k = 0; k < 2; ++k) {
      const std::string expert =
          "experts." + std::to_string(output.record.experts_TK[t][k].item<int64_t>());
      const auto product = [&](const char* which, const Tensor& in) {
        return at::matmul(moe.weight(expert + "." + which + "_proj.weight"), in);
      };
      const Tensor hidden = at::silu(product("gate", x_TD[t])) * product("up", x_TD[t]);
      expected_TD[t] += product("down", hidden);
    }
  }
  EXPECT_TRUE(near(output.y_TD.detach(), expected_TD.detach(), 1e-5));
}

TEST(HashRouterTest, R4_PiecesOfASampleRouteAsTheWhole) {
  const TokenContext whole = text(5, 10);
  for (const char* method : kMethods) {
    const HashRouter router(hash(method), place(8));
    TokenContext first = context_of(2, 10), rest = context_of(3, 10, 2);
    first.tokens_T = whole.tokens_T.narrow(0, 0, 20),
    rest.tokens_T = whole.tokens_T.narrow(0, 20, 30);
    first.previous_T = whole.previous_T.narrow(0, 0, 20);
    rest.previous_T = whole.previous_T.narrow(0, 20, 30);
    EXPECT_TRUE(same(at::cat({route(router, first), route(router, rest)}), route(router, whole)))
        << method;
  }
}

TEST(HashRouterTest, R4_PositionsGoOnBehindWhatIsCached) {
  const HashRouter router(hash("position"), place(8));
  const Tensor whole_TK = route(router, text(1, 12));
  TokenContext later = text(1, 5);
  later.first_position = 7;
  EXPECT_TRUE(same(route(router, later), whole_TK.narrow(0, 7, 5)));
}

TEST(HashRouterTest, R4_NoTokens) {
  for (const char* method : kMethods) {
    const HashRouter router(hash(method, 2), place(8, 2));
    EXPECT_EQ(route(router, text(0, 5)).sizes(), (std::vector<int64_t>{0, 2})) << method;
  }
}

TEST(HashRouterTest, R4_RefusesPartsThatDoNotFit) {
  EXPECT_THROW(HashRouter(hash("random", 2), place(8, 1)), ConfigError);
  EXPECT_THROW(HashRouter(hash("random", 3), place(8, 3)), ConfigError);
}

}  // namespace
}  // namespace switchyard
