#include "optim/parameter_store.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <set>

#include "optim/adamw.h"
#include "optim/sample_model.h"

namespace switchyard {
namespace {

using at::Tensor;

constexpr ParameterKind kDense = ParameterKind::kDense, kExpert = ParameterKind::kExpert;

ParameterStore::Options options_of(at::ScalarType dtype, int zero_stage = 1, uint64_t seed = 7) {
  ParameterStore::Options options;
  options.dtype = dtype;
  options.zero_stage = zero_stage;
  options.seed = seed;
  return options;
}

TEST(ParameterStoreTest, PartsTileTheBuffersInTheOrderOfTheirLeaves) {
  const Mesh mesh = solo_mesh();
  const SampleModel model(mesh, options_of(at::kFloat));
  int64_t end[2] = {0, 0};
  for (const PlacedPart& placed : model.store.parts()) {
    int64_t& at = end[placed.kind == kDense ? 0 : 1];
    EXPECT_EQ(placed.range.begin, at) << placed.part.name;
    EXPECT_EQ(placed.range.size(), c10::multiply_integers(placed.part.shape)) << placed.part.name;
    at = placed.range.end;
  }
  EXPECT_EQ(end[0], kOdd.dense());
  EXPECT_EQ(end[1], kOdd.expert());
  EXPECT_EQ(model.store.local_elements(kDense), kOdd.dense());
  EXPECT_EQ(model.store.local_elements(kExpert), kOdd.expert());
  EXPECT_EQ(model.store.buffer(kDense).weights.numel(), kOdd.dense());
}

TEST(ParameterStoreTest, ALeafIsAViewOfItsParts) {
  const Mesh mesh = solo_mesh();
  SampleModel model(mesh, options_of(at::kFloat));
  EXPECT_EQ(model.gate_up.sizes(), (std::vector<int64_t>{4, 10, 3}));
  const Tensor expert_2 = model.gate_up.detach()[2];
  const auto weight_of = [&](const std::string& name) {
    return model.store.weight_of(model.named("model.layers.0." + name + ".weight"));
  };
  EXPECT_TRUE(same(expert_2.narrow(0, 0, 5), weight_of("mlp.experts.2.gate_proj")));
  EXPECT_TRUE(same(expert_2.narrow(0, 5, 5), weight_of("mlp.experts.2.up_proj")));
  EXPECT_TRUE(same(model.down.detach()[3], weight_of("mlp.experts.3.down_proj")));
  EXPECT_TRUE(same(model.qkv.detach().narrow(0, 4, 2), weight_of("k_proj")));
  model.store.buffer(kDense).weights.fill_(5);
  EXPECT_TRUE(same(model.norm.detach(), at::full({3}, 5.0F)));
}

TEST(ParameterStoreTest, InitialisationIsAFunctionOfSeedAndName) {
  const Mesh mesh = solo_mesh();
  const SampleModel model(mesh, options_of(at::kFloat)), again(mesh, options_of(at::kFloat)),
      other(mesh, options_of(at::kFloat, 1, /*seed=*/8));
  EXPECT_TRUE(model.weights_equal(again));
  EXPECT_FALSE(at::equal(model.embedding, other.embedding));
  // A part's start does not know which leaf it lies in.
  ParameterStore apart;
  const Tensor k = apart.add(kDense, {"model.layers.0.k_proj.weight", {2, 3}, {}});
  apart.allocate(mesh, options_of(at::kFloat));
  EXPECT_TRUE(same(k.detach(), model.qkv.detach().narrow(0, 4, 2)));
}

TEST(ParameterStoreTest, NoTwoPartsOfRandomStartShareAValue) {
  const Mesh mesh = solo_mesh();
  const SampleModel model(mesh, options_of(at::kFloat));
  std::set<std::vector<float>> starts;
  size_t random_parts = 0;
  for (const PlacedPart& placed : model.store.parts()) {
    if (placed.part.init.type == Init::Type::kOnes) continue;
    const Tensor head = model.store.weight_of(placed).flatten().narrow(0, 0, 6);
    starts.emplace(head.data_ptr<float>(), head.data_ptr<float>() + 6);
    ++random_parts;
  }
  EXPECT_EQ(starts.size(), random_parts);
}

TEST(ParameterStoreTest, TheFourKindsOfStart) {
  const Mesh mesh = solo_mesh();
  ParameterStore store;
  store.add(kDense, {"ones", {100, 200}, {Init::Type::kOnes, 0}});
  store.add(kDense, {"zeros", {100, 200}, {Init::Type::kZeros, 0}});
  store.add(kDense, {"normal", {100, 200}, {Init::Type::kNormal, 0.5}});
  store.add(kDense, {"truncated", {100, 200}, {Init::Type::kTruncatedNormal, 0.5}});
  store.allocate(mesh, options_of(at::kFloat));
  const auto weight = [&](int i) { return store.weight_of(store.parts()[i]); };
  EXPECT_TRUE(same(weight(0), at::ones({100, 200})));
  EXPECT_TRUE(same(weight(1), at::zeros({100, 200})));
  EXPECT_NEAR(weight(2).mean().item<double>(), 0, 0.02);
  EXPECT_NEAR(weight(2).std().item<double>(), 0.5, 0.01);
  EXPECT_GT(weight(2).abs().max().item<double>(), 1.0);
  EXPECT_LE(weight(3).abs().max().item<double>(), 1.0);
  // A normal cut at two deviations has 0.8796 of its deviation left.
  EXPECT_NEAR(weight(3).std().item<double>(), 0.5 * 0.8796, 0.01);
}

TEST(ParameterStoreTest, InBfloat16TheMasterKeepsTheFloat32Start) {
  const Mesh mesh = solo_mesh();
  const SampleModel whole(mesh, options_of(at::kFloat)), half(mesh, options_of(at::kBFloat16));
  EXPECT_FALSE(whole.store.buffer(kDense).master.defined());
  for (const ParameterKind kind : {kDense, kExpert}) {
    const Tensor& expected = whole.store.buffer(kind).weights;
    EXPECT_TRUE(same(half.store.buffer(kind).master, expected));
    EXPECT_TRUE(same(half.store.buffer(kind).weights, expected.to(at::kBFloat16)));
  }
  EXPECT_EQ(half.embedding.scalar_type(), at::kBFloat16);
}

// 1 + 2^-9 + 2^-9 needs more bits than bfloat16 has: a bfloat16 sum would stay 1.
TEST(ParameterStoreTest, GradientsAddUpInFloat32WhateverTheWeights) {
  const Mesh mesh = solo_mesh();
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    SampleModel model(mesh, options_of(dtype));
    const void* home = model.embedding.grad().data_ptr();
    for (const double slope : {1.0, 0x1.0p-9, 0x1.0p-9}) {
      (model.embedding * slope).sum().backward();
      (model.down * at::full({1}, slope, dtype)).sum().backward();
    }
    EXPECT_EQ(model.embedding.grad().scalar_type(), at::kFloat);
    EXPECT_EQ(model.embedding.grad().data_ptr(), home) << "backward put another tensor there";
    EXPECT_TRUE(same(model.embedding.grad(), at::full({7, 3}, 1 + 0x1.0p-8F)));
    EXPECT_TRUE(same(model.down.grad(), at::full({4, 3, 5}, 1 + 0x1.0p-8F)));
    EXPECT_TRUE(same(model.store.gradient_of(model.named("model.embed_tokens.weight")),
                     model.embedding.grad()));
    EXPECT_EQ(model.store.buffer(kDense).gradients.sum().item<float>(), 21 * (1 + 0x1.0p-8F));
    model.store.zero_gradients();
    EXPECT_TRUE(same(model.embedding.grad(), at::zeros({7, 3})));
    (model.embedding * 3).sum().backward();
    EXPECT_TRUE(same(model.embedding.grad(), at::full({7, 3}, 3.0F)));
  }
}

TEST(ParameterStoreTest, DecayIsForTwoDimensionsAndMoreUnlessARuleSaysOtherwise) {
  const Mesh mesh = solo_mesh();
  const SampleModel model(mesh, options_of(at::kFloat));
  for (const PlacedPart& placed : model.store.parts()) {
    EXPECT_EQ(placed.rule.decay, placed.part.shape.size() >= 2) << placed.part.name;
    EXPECT_EQ(placed.rule.lr_scale, 1.0);
    EXPECT_FALSE(placed.rule.frozen);
  }
  ParameterStore::Options options = options_of(at::kFloat);
  options.rule = [](const NamedPart& part) {
    return UpdateRule{.lr_scale = 3, .decay = part.shape.size() == 1, .frozen = false};
  };
  const SampleModel ruled(mesh, options);
  for (const PlacedPart& placed : ruled.store.parts()) {
    EXPECT_EQ(placed.rule.decay, placed.part.shape.size() == 1) << placed.part.name;
    EXPECT_EQ(placed.rule.lr_scale, 3.0);
  }
}

TEST(ParameterStoreTest, FrozenPartsStayWhileTheRestMoves) {
  const Mesh mesh = solo_mesh();
  const std::string frozen[] = {"model.embed_tokens.weight", "model.layers.0.k_proj.weight",
                                "model.layers.0.mlp.experts.1.up_proj.weight"};
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    ParameterStore::Options options = options_of(dtype);
    options.rule = [&](const NamedPart& part) {
      return UpdateRule{.frozen = std::find(std::begin(frozen), std::end(frozen), part.name) !=
                                  std::end(frozen)};
    };
    SampleModel model(mesh, options);
    const SampleModel start(mesh, options);
    EXPECT_FALSE(model.embedding.requires_grad());
    EXPECT_TRUE(model.qkv.requires_grad());
    for (ParameterStore::Buffer& buffer : model.store.buffers()) buffer.gradients.fill_(1);
    AdamW{}.update(model.store, /*step=*/1, /*lr=*/0.1, /*gradient_scale=*/1);
    model.store.gather_weights();
    for (const PlacedPart& placed : model.store.parts()) {
      const bool stays = at::equal(model.store.weight_of(placed),
                                   start.store.weight_of(start.named(placed.part.name)));
      EXPECT_EQ(stays, placed.rule.frozen) << placed.part.name;
    }
  }
}

TEST(ParameterStoreTest, RefreshMasterTakesTheWeightsAsTheyAre) {
  const Mesh mesh = solo_mesh();
  SampleModel model(mesh, options_of(at::kBFloat16));
  model.store.buffer(kDense).weights.fill_(0.5);
  model.store.refresh_master();
  EXPECT_TRUE(same(model.store.buffer(kDense).master, at::full({kOdd.dense()}, 0.5F)));
  SampleModel whole(mesh, options_of(at::kFloat));
  whole.store.refresh_master();  // nothing to do
  EXPECT_FALSE(whole.store.buffer(kDense).master.defined());
}

TEST(ParameterStoreTest, AModelWithoutExpertsHasAnEmptyBufferForThem) {
  const Mesh mesh = solo_mesh();
  ParameterStore store;
  store.add(kDense, {"weight", {2, 2}, {}});
  store.allocate(mesh, options_of(at::kBFloat16));
  EXPECT_EQ(store.buffer(kExpert).weights.numel(), 0);
  AdamW{}.update(store, 1, 0.1, 1);
  store.gather_weights();
  EXPECT_EQ(store.local_elements(kExpert), 0);
}

TEST(ParameterStoreTest, BuffersWithoutMemoryHaveAllThatTheOthersHaveButValues) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    for (const int stage : {0, 1, 2}) {
      const Mesh mesh = solo_mesh();
      ParameterStore::Options options = options_of(dtype, stage);
      const SampleModel real(mesh, options);
      options.device = at::kMeta;
      const SampleModel model(mesh, options);
      EXPECT_EQ(model.store.bytes().weights, real.store.bytes().weights);
      EXPECT_EQ(model.store.bytes().gradients, real.store.bytes().gradients);
      EXPECT_EQ(model.store.bytes().optimizer, real.store.bytes().optimizer);
      const std::vector<Tensor> leaves = model.store.leaves(), others = real.store.leaves();
      ASSERT_EQ(leaves.size(), others.size());
      std::vector<Tensor> sums;
      for (size_t i = 0; i < leaves.size(); ++i) {
        EXPECT_TRUE(leaves[i].is_meta());
        EXPECT_EQ(leaves[i].sizes(), others[i].sizes());
        EXPECT_EQ(leaves[i].dtype(), others[i].dtype());
        sums.push_back(leaves[i].sum());
      }
      torch::autograd::backward(sums, {});
      for (const Tensor& leaf : leaves) EXPECT_EQ(leaf.grad().scalar_type(), at::kFloat);
    }
  }
}

TEST(ParameterStoreTest, BucketsAreTheLeavesBetweenTheirBegins) {
  ParameterStore store;
  const auto add = [&store](ParameterKind kind, const std::string& name, int64_t elements) {
    store.add(kind, {name, {elements}, {}});
  };
  add(kDense, "embedding", 3);
  EXPECT_EQ(store.begin_bucket(), 1);
  add(kDense, "layers.0.norm", 2);
  add(kExpert, "layers.0.expert", 5);
  add(kDense, "layers.0.router", 4);
  EXPECT_EQ(store.begin_bucket(), 2);
  add(kExpert, "layers.1.expert", 6);
  EXPECT_EQ(store.begin_bucket(), 3);
  const Mesh mesh = solo_mesh();
  store.allocate(mesh, options_of(at::kFloat));
  ASSERT_EQ(store.num_buckets(), 4);
  const auto range = [&](int64_t bucket, ParameterKind kind) {
    const Interval elements = store.bucket(bucket, kind);
    return std::pair(elements.begin, elements.end);
  };
  EXPECT_EQ(range(0, kDense), std::pair(int64_t{0}, int64_t{3}));
  EXPECT_EQ(range(1, kDense), std::pair(int64_t{3}, int64_t{9}));
  EXPECT_EQ(range(1, kExpert), std::pair(int64_t{0}, int64_t{5}));
  EXPECT_EQ(range(2, kExpert), std::pair(int64_t{5}, int64_t{11}));
  for (const ParameterKind kind : {kDense, kExpert}) EXPECT_TRUE(store.bucket(3, kind).empty());
  EXPECT_TRUE(store.bucket(0, kExpert).empty());
  EXPECT_TRUE(store.bucket(2, kDense).empty());
}

TEST(ParameterStoreTest, WeightsThatAreUnderWayAreNotGivenOut) {
  const Mesh mesh = solo_mesh();
  ParameterStore store;
  store.add(kDense, {"embedding", {2}, {}});
  store.begin_bucket();
  store.add(kDense, {"head", {2}, {}});
  ParameterStore::Options options = options_of(at::kFloat);
  options.overlap_gather = true;
  store.allocate(mesh, options);
  EXPECT_NO_THROW(store.buffers());
  for (int step = 0; step < 2; ++step) {
    store.gather_weights();
    EXPECT_THROW(store.buffers(), c10::Error);
    store.need_weights(0);
    EXPECT_THROW(store.weight_of(store.parts()[0]), c10::Error);
    EXPECT_THROW(store.leaves(), c10::Error);
    store.need_weights(1);
    EXPECT_NO_THROW(store.weight_of(store.parts()[0]));
  }
}

TEST(ParameterStoreTest, RefusesWhatBreaksItsContract) {
  const Mesh mesh = solo_mesh();
  ParameterStore store;
  EXPECT_THROW(store.add(kDense, {3, 2}, {{"a", {2, 2}, {}}, {"b", {1}, {}}}), c10::Error);
  store.add(kDense, {"weight", {2, 2}, {}});
  store.allocate(mesh, options_of(at::kFloat));
  EXPECT_THROW(store.add(kDense, {"late", {2, 2}, {}}), c10::Error);
  EXPECT_THROW(store.allocate(mesh, options_of(at::kFloat)), c10::Error);
}

}  // namespace
}  // namespace switchyard
