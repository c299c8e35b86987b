#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>

#include "moe/moe_layer.h"
#include "moe/router_losses.h"
#include "moe/sample_moe.h"
#include "support/mpi_main.h"
#include "support/tensors.h"

// Runs at W = 1, 2, 4, 8: experts shared out to EP ranks give what one process gives
// on the tokens of all ranks. Sequences are told to ranks in order, some getting none.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kLength = 6;  // tokens of a sequence
constexpr int64_t kWidth = 6;
constexpr int64_t kVocabulary = 32;

/// Sequences of each rank.
using Share = std::function<int64_t(int rank)>;

struct Slice {
  int64_t first = 0, count = 0;  // sequences of this rank
  int64_t total = 0;             // of all ranks
};

Slice slice_of(const Share& share) {
  Slice slice;
  for (int r = 0; r < test_runtime().world_size(); ++r) {
    if (r < test_runtime().rank()) slice.first += share(r);
    slice.total += share(r);
  }
  slice.count = share(test_runtime().rank());
  return slice;
}

/// With token ids, and a domain for each sequence, that the place in the run's order decides.
TokenContext labelled_context(const Slice& slice) {
  TokenContext context = context_of(slice.count, kLength, slice.first);
  const Tensor place_T = slice.first * kLength + at::arange(slice.count * kLength, at::kLong);
  context.tokens_T = (place_T * 7).remainder(kVocabulary);
  const Tensor before_T = (context.tokens_T - 7).remainder(kVocabulary);
  context.previous_T = at::where(place_T.remainder(kLength) == 0, -1, before_T);
  context.domains_T = at::floor_divide(place_T * 3, kLength).remainder(8);
  return context;
}

/// What a pass gives: outputs, the gradient at x of outputs and router losses, and
/// the record.
struct Pass {
  Tensor y_TD, x_gradient_TD;
  RouterRecord record;
  double objective = 0;
};

/// Forward and backward of sequences [first, first + count) of `total`.
Pass run(SampleMoe& moe, const MoeConfig& config, const Tensor& all_x_TD, const Slice& slice) {
  const auto rows = [&](const Tensor& all_TD) {
    return all_TD.narrow(0, slice.first * kLength, slice.count * kLength);
  };
  const Tensor all_weights_TD =
      normal_tensor(all_x_TD.sizes().vec(), "weight of the outputs", at::kFloat);
  const Tensor x_TD = rows(all_x_TD).clone().set_requires_grad(true);
  moe.store.zero_gradients();
  const MoeOutput output = moe.layer.forward(x_TD, labelled_context(slice));
  const auto step_tokens = static_cast<double>(std::max<int64_t>(slice.total * kLength, 1));
  const RouterLosses losses = router_losses({output.record}, config, {}, step_tokens);
  const Tensor objective = (output.y_TD * rows(all_weights_TD)).sum() + losses.objective;
  objective.backward();
  return {output.y_TD.detach(), x_TD.grad(), output.record, objective.item<double>()};
}

/// `part` of the sharded store with its gradient summed over the ranks that hold it.
Tensor reduced_gradient(const SampleMoe& moe, const PlacedPart& placed, const Mesh& mesh) {
  Tensor gradient = moe.store.gradient_of(placed).clone();
  Communicator& group = placed.kind == ParameterKind::kDense ? *mesh.world : *mesh.data;
  group.all_reduce(gradient, ReduceOp::kSum, "gradient of the test");
  return gradient;
}

void expect_equal_to_one_process(const ModelConfig& model, const MoeConfig& config,
                                 const Tensor& x_TD, const Share& share,
                                 const std::function<void(SampleMoe&)>& prepare) {
  const Slice slice = slice_of(share);
  const Mesh solo = solo_mesh();
  SampleMoe whole(model, config, solo);
  prepare(whole);
  const Pass expected = run(whole, config, x_TD, {0, slice.total, slice.total});
  for (int64_t EP = 1; EP <= test_runtime().world_size(); EP *= 2) {
    for (const char* order : {"expert_inner", "data_inner"}) {
      SCOPED_TRACE("EP " + std::to_string(EP) + ", " + order);
      const Mesh mesh = test_runtime().make_mesh({EP, order});
      SampleMoe moe(model, config, mesh);
      prepare(moe);
      const Pass pass = run(moe, config, x_TD, slice);

      const int64_t begin = slice.first * kLength, count = slice.count * kLength;
      EXPECT_TRUE(near(pass.y_TD, expected.y_TD.narrow(0, begin, count), 1e-5));
      EXPECT_TRUE(near(pass.x_gradient_TD, expected.x_gradient_TD.narrow(0, begin, count), 1e-5));
      EXPECT_TRUE(same(pass.record.experts_TK, expected.record.experts_TK.narrow(0, begin, count)));
      EXPECT_TRUE(same(pass.record.kept_TK, expected.record.kept_TK.narrow(0, begin, count)));
      Tensor sums = at::tensor(
          {pass.objective, static_cast<double>(pass.record.dropped_pairs.item<int64_t>())},
          at::kDouble);
      mesh.world->all_reduce(sums, ReduceOp::kSum, "sums of the test");
      EXPECT_NEAR(sums[0].item<double>(), expected.objective,
                  1e-5 * std::max(1.0, std::abs(expected.objective)));
      EXPECT_EQ(sums[1].item<double>(),
                static_cast<double>(expected.record.dropped_pairs.item<int64_t>()));
      for (const PlacedPart& placed : moe.store.parts()) {
        const std::string& name = placed.part.name;
        EXPECT_TRUE(near(reduced_gradient(moe, placed, mesh), whole.gradient(name), 1e-5)) << name;
      }
    }
  }
}

struct NamedConfig {
  const char* name;
  ModelConfig model;
  MoeConfig moe;
};

std::vector<NamedConfig> configs() {
  NamedConfig dropless{"dropless, shared expert", sample_model(), sample_moe_config(2)};
  dropless.moe.shared_experts = {1, 4, true};
  dropless.moe.router.jitter_eps = 0.1;

  NamedConfig all{"all experts, gelu", sample_model(), sample_moe_config(8)};
  all.model.ffn = "gelu";

  NamedConfig capacity{"switch with capacity", sample_model(), sample_moe_config(1)};
  capacity.moe.router.type = "switch";
  capacity.moe.capacity.factor = 1.0;
  capacity.moe.capacity.min = 1;

  NamedConfig gshard{"gshard with capacity", sample_model(), sample_moe_config(2)};
  gshard.moe.router.type = "gshard";
  gshard.moe.router.normalize_gate = "after_drop";
  gshard.moe.capacity = capacity.moe.capacity;

  NamedConfig deepseek{"sigmoid, bias, groups", sample_model(), sample_moe_config(3)};
  deepseek.moe.router.score = "sigmoid";
  deepseek.moe.router.selection_bias = true;
  deepseek.moe.router.n_group = 4;
  deepseek.moe.router.topk_group = 2;
  deepseek.moe.router.scaling_factor = 2.5;
  deepseek.moe.capacity.factor = 0.75;
  deepseek.moe.capacity.min = 1;
  deepseek.moe.capacity.priority = "random";

  NamedConfig dropout = capacity;
  dropout.name = "expert dropout with capacity";
  dropout.moe.top_k = 2;
  dropout.moe.router.type = "topk";
  dropout.moe.expert_dropout = 0.4;

  NamedConfig dselect{"dselect_k", sample_model(), sample_moe_config(2)};
  dselect.moe.router.type = "dselect_k";
  dselect.moe.router.dselect_k.gamma = 0.02;  // some bits decided

  NamedConfig attention{"attention", sample_model(), sample_moe_config(2)};
  attention.moe.router.type = "attention";

  NamedConfig recurrent{"recurrent", sample_model(), sample_moe_config(2)};
  recurrent.moe.router.type = "recurrent";
  recurrent.moe.router.recurrent.hidden_size = 5;

  NamedConfig mixer{"sparsemixer with capacity", sample_model(), sample_moe_config(2)};
  mixer.moe.router.type = "sparsemixer";
  mixer.moe.router.sparsemixer.eps = 0.9;
  mixer.moe.capacity = capacity.moe.capacity;
  NamedConfig hash{"hash of bigrams in two parts", sample_model(), sample_moe_config(2)};
  hash.model.vocab_size = kVocabulary;
  hash.moe.router.type = "hash";
  hash.moe.router.hash = {"bigram", 2};
  hash.moe.capacity = capacity.moe.capacity;

  NamedConfig domain{"domains", sample_model(), sample_moe_config(1)};
  domain.moe.router.type = "domain";

  NamedConfig sequence{"clusters with a universal expert", sample_model(), sample_moe_config(1)};
  sequence.moe.router.type = "sequence";
  sequence.moe.router.sequence = {8, 4, 0.5};
  sequence.moe.shared_experts = {1, 4, false};

  NamedConfig reinforce{"sampled", sample_model(), sample_moe_config(1)};
  reinforce.model.vocab_size = kVocabulary;
  reinforce.moe.router.type = "reinforce";

  NamedConfig dense{"dense training", sample_model(), sample_moe_config(2)};
  dense.moe.router.type = "dense_training";
  NamedConfig vmoe{"noise, batch priority", sample_model(), sample_moe_config(2)};
  vmoe.moe.router.normalize = false;
  vmoe.moe.router.noise_std = 0.3;
  vmoe.moe.capacity = capacity.moe.capacity;
  vmoe.moe.capacity.priority = "probability_sum";

  NamedConfig skywork{"normalised logits, hidden experts", sample_model(), sample_moe_config(2)};
  skywork.moe.router.logit_normalization = 1.0;
  skywork.moe.router.expert_dropout = 0.3;

  NamedConfig ntlb = capacity;
  ntlb.name = "sampled switch, no token left behind";
  ntlb.moe.router.exploration = "sample";
  ntlb.moe.router.reroute_choices = 4;

  NamedConfig noisy{"noisy top-k", sample_model(), sample_moe_config(2)};
  noisy.moe.router.type = "noisy_topk";

  NamedConfig tree = noisy;
  tree.name = "hierarchical noisy top-k";
  tree.moe.top_k = 4;
  tree.moe.router.noisy_topk.groups = 4;
  tree.moe.router.noisy_topk.groups_per_token = 2;

  NamedConfig budget{"budget of groups of experts", sample_model(), sample_moe_config(3)};
  budget.moe.router.n_group = 4;
  budget.moe.router.topk_group = 2;
  budget.moe.router.group_score = "max";
  budget.moe.capacity.device_factor = 0.7;
  budget.moe.capacity.protected_fraction = 0.3;
  NamedConfig expert_choice{"expert choice, expert dropout", sample_model(), sample_moe_config(2)};
  expert_choice.moe.router.type = "expert_choice";
  expert_choice.moe.expert_dropout = 0.4;

  NamedConfig capped = expert_choice;
  capped.name = "capped expert choice";
  capped.moe.router.expert_choice.max_experts_per_token = 3;

  NamedConfig base{"balanced assignment", sample_model(), sample_moe_config(1)};
  base.moe.router.type = "base";

  NamedConfig sinkhorn{"sinkhorn", sample_model(), sample_moe_config(1)};
  sinkhorn.moe.router.type = "sinkhorn";

  NamedConfig ot_expert{"sparse transport by expert", sample_model(), sample_moe_config(2)};
  ot_expert.moe.router.type = "sparse_ot";

  NamedConfig ot_token = ot_expert;
  ot_token.name = "sparse transport by token, plan weights";
  ot_token.moe.router.sparse_ot.limit = "token";
  ot_token.moe.router.sparse_ot.weights = "plan";
  return {dropless,      all,       capacity, gshard,   deepseek,  dropout,  dselect,
          attention,     recurrent, mixer,    hash,     domain,    sequence, reinforce,
          dense,         vmoe,      skywork,  ntlb,     noisy,     tree,     budget,
          expert_choice, capped,    base,     sinkhorn, ot_expert, ot_token};
}

void set_bias(SampleMoe& moe) {
  for (auto& [name, state] : moe.layer.state()) {
    if (name.ends_with("bias")) state.copy_(0.2 * normal_tensor({8}, "bias", at::kFloat));
  }
}

void expect_layouts_agree(const Share& share) {
  const Tensor x_TD =
      normal_tensor({slice_of(share).total * kLength, kWidth}, "hidden states", at::kFloat);
  for (const NamedConfig& config : configs()) {
    SCOPED_TRACE(config.name);
    expect_equal_to_one_process(config.model, config.moe, x_TD, share, set_bias);
  }
}

TEST(ShardedMoeLayerTest, EqualShares) {
  expect_layouts_agree([](int) { return 2; });
}

TEST(ShardedMoeLayerTest, UnequalShares) {
  expect_layouts_agree([](int rank) { return 1 + rank % 3; });
}

TEST(ShardedMoeLayerTest, TheFirstRankHasAllTokens) {
  expect_layouts_agree([](int rank) { return rank == 0 ? 4 : 0; });
}

TEST(ShardedMoeLayerTest, TheFirstRankHasNoTokens) {
  const int W = test_runtime().world_size();
  expect_layouts_agree([W](int rank) { return rank == 0 && W > 1 ? 0 : 2; });
}

TEST(ShardedMoeLayerTest, NobodyHasTokens) {
  expect_layouts_agree([](int) { return 0; });
}

TEST(ShardedMoeLayerTest, AllTokensGoToOneExpert) {
  MoeConfig config = sample_moe_config(1);
  config.router.type = "switch";
  const Share two = [](int) { return 2; };
  const Tensor x_TD =
      normal_tensor({slice_of(two).total * kLength, kWidth}, "hidden states", at::kFloat).abs();
  for (const int64_t expert : {0, 5, 7}) {
    SCOPED_TRACE(expert);
    expect_equal_to_one_process(sample_model(), config, x_TD, two, [&](SampleMoe& moe) {
      moe.weight("gate.weight").zero_();
      moe.weight("gate.weight")[expert].fill_(1);
    });
  }
}

// Hidden states without a gradient (a frozen embedding) and experts that are frozen
// on the first rank alone: it still has to enter the backward exchanges.
TEST(ShardedMoeLayerTest, ExpertsFrozenOnOneRankDoNotHoldUpTheOthers) {
  const int W = test_runtime().world_size(), rank = test_runtime().rank();
  const int64_t frozen = 8 / W;
  const MoeConfig config = sample_moe_config();
  const auto freeze = [&](const NamedPart& part) {
    UpdateRule rule;
    for (int64_t e = 0; e < frozen; ++e) {
      rule.frozen |= part.name.find("experts." + std::to_string(e) + ".") != std::string::npos;
    }
    return rule;
  };
  const Tensor x_TD = normal_tensor({W * kLength, kWidth}, "hidden states", at::kFloat);
  const auto run = [&](SampleMoe& moe, int64_t first, int64_t count) {
    const MoeOutput output = moe.layer.forward(x_TD.narrow(0, first * kLength, count * kLength),
                                               context_of(count, kLength, first));
    output.y_TD.square().sum().backward();
    return output.y_TD.detach();
  };
  const Mesh solo = solo_mesh();
  SampleMoe whole(sample_model(), config, solo);
  const Tensor expected = run(whole, 0, W);
  for (const int64_t chunks : {1, 3}) {
    const Mesh mesh = test_runtime().make_mesh({W, "expert_inner", chunks});
    SampleMoe moe(sample_model(), config, mesh, freeze);
    const Tensor y_TD = run(moe, rank, 1);
    EXPECT_TRUE(near(y_TD, expected.narrow(0, rank * kLength, kLength), 1e-5));
    for (const PlacedPart& placed : moe.store.parts()) {
      const std::string name = placed.part.name.substr(4);
      const Tensor gradient = reduced_gradient(moe, placed, mesh);
      EXPECT_TRUE(near(gradient,
                       placed.rule.frozen ? at::zeros_like(gradient) : whole.gradient(name), 1e-5))
          << name;
    }
  }
}

/// LibTorch's activations round the last elements of a tensor, fewer than a vector, otherwise.
bool agrees(const NamedConfig& config, const Tensor& a, const Tensor& b) {
  return config.model.ffn == "swiglu" ? same(a, b) : near(a, b, 1e-6);
}

void expect_the_same_bits(const NamedConfig& config, const Share& share, at::ScalarType dtype) {
  const Slice slice = slice_of(share);
  const Tensor x_TD =
      normal_tensor({slice.total * kLength, kWidth}, "hidden states", at::kFloat).to(dtype);
  for (int64_t EP = 2; EP <= test_runtime().world_size(); EP *= 2) {
    const Mesh mesh = test_runtime().make_mesh({EP, "expert_inner"});
    SampleMoe plain(config.model, config.moe, mesh, {}, dtype);
    const Pass expected = run(plain, config.moe, x_TD, slice);
    for (const int64_t chunks : {2, 3, 50}) {  // more than the experts of a rank, too
      SCOPED_TRACE("EP " + std::to_string(EP) + ", " + std::to_string(chunks) + " chunks");
      const Mesh overlapped = test_runtime().make_mesh({EP, "expert_inner", chunks});
      SampleMoe moe(config.model, config.moe, overlapped, {}, dtype);
      const Pass pass = run(moe, config.moe, x_TD, slice);
      EXPECT_TRUE(agrees(config, pass.y_TD, expected.y_TD));
      EXPECT_TRUE(agrees(config, pass.x_gradient_TD, expected.x_gradient_TD));
      for (const PlacedPart& placed : moe.store.parts()) {
        const std::string& name = placed.part.name;
        EXPECT_TRUE(agrees(config, moe.gradient(name), plain.gradient(name))) << name;
      }
    }
  }
}

// Single tokens and ranks without any, so that many blocks are empty.
TEST(ShardedMoeLayerTest, ChunksOfTheExchangeChangeNoBit) {
  const int W = test_runtime().world_size();
  const std::vector<Share> shares = {[](int) { return 2; }, [](int rank) { return rank % 3; },
                                     [W](int rank) { return rank == W - 1 ? 1 : 0; },
                                     [](int) { return 0; }};
  for (const NamedConfig& config : configs()) {
    SCOPED_TRACE(config.name);
    expect_the_same_bits(config, shares[1], at::kFloat);
  }
  const NamedConfig dropless{"dropless", sample_model(), sample_moe_config(2)};
  for (const Share& share : shares) {
    expect_the_same_bits(dropless, share, at::kFloat);
    expect_the_same_bits(dropless, share, at::kBFloat16);
  }
}

// The sharded draw is the unsharded one: only names count.
TEST(ShardedMoeLayerTest, WeightsStartTheSameOnAnyLayout) {
  const Mesh solo = solo_mesh();
  MoeConfig config = sample_moe_config();
  config.shared_experts = {1, 4, true};
  const SampleMoe whole(sample_model(), config, solo);
  for (int64_t EP = 1; EP <= test_runtime().world_size(); EP *= 2) {
    const Mesh mesh = test_runtime().make_mesh({EP, "expert_inner"});
    const SampleMoe moe(sample_model(), config, mesh);
    int64_t experts = 0;
    for (const PlacedPart& placed : moe.store.parts()) {
      const std::string name = placed.part.name.substr(4);
      EXPECT_TRUE(same(moe.store.weight_of(placed), whole.weight(name))) << name;
      experts += placed.kind == ParameterKind::kExpert;
    }
    EXPECT_EQ(experts, 3 * 8 / EP);
  }
}

}  // namespace
}  // namespace switchyard
