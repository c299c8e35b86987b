#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <functional>

#include "optim/adamw.h"
#include "optim/gradients.h"
#include "optim/sample_model.h"
#include "support/mpi_main.h"
#include "support/peak_bytes.h"

// Runs at W = 1, 2, 4: for every layout (EP, order, ZeRO stage, dtype) the sharded
// store does what the whole one on a world of one does.

namespace switchyard {
namespace {

using at::Tensor;

constexpr ParameterKind kDense = ParameterKind::kDense, kExpert = ParameterKind::kExpert;

struct Layout {
  ParallelConfig parallel;
  ParameterStore::Options options;

  std::string name() const {
    return "EP " + std::to_string(parallel.expert) + ", " + parallel.order + ", stage " +
           std::to_string(options.zero_stage) + ", " + c10::toString(options.dtype);
  }
};

/// Calls `body(layout, mesh)` for every layout of this world.
template <class Body>
void for_each_layout(const Body& body, const std::vector<int>& stages = {0, 1, 2}) {
  for (int64_t EP = 1; EP <= test_runtime().world_size(); EP *= 2) {
    for (const char* order : {"expert_inner", "data_inner"}) {
      for (const int zero_stage : stages) {
        for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
          Layout layout{{EP, order}, {}};
          layout.options.dtype = dtype;
          layout.options.zero_stage = zero_stage;
          layout.options.seed = 11;
          const Mesh mesh = test_runtime().make_mesh(layout.parallel);
          SCOPED_TRACE(layout.name());
          body(layout, mesh);
        }
      }
    }
  }
}

int64_t padded(int64_t elements, int64_t ranks) { return (elements + ranks - 1) / ranks * ranks; }

TEST(ShardingTest, TheStartDoesNotKnowTheLayout) {
  const Mesh solo = solo_mesh();
  for_each_layout([&](const Layout& layout, const Mesh& mesh) {
    const SampleModel model(mesh, layout.options), whole(solo, layout.options);
    EXPECT_TRUE(model.weights_equal(whole));
    EXPECT_EQ(model.store.local_elements(kExpert), kOdd.expert() / mesh.expert_size());
    for (const ParameterStore::Buffer& buffer : model.store.buffers()) {
      if (!buffer.master.defined()) continue;
      const Tensor rounded = buffer.master.to(layout.options.dtype);
      EXPECT_TRUE(same(rounded, buffer.weights.narrow(0, buffer.state.begin, buffer.state.size())));
      EXPECT_FALSE(at::equal(buffer.master, rounded.to(at::kFloat)));
    }
  });
}

TEST(ShardingTest, C7_ShardsTileEachBuffer) {
  for_each_layout([&](const Layout& layout, const Mesh& mesh) {
    const SampleModel model(mesh, layout.options);
    for (const ParameterStore::Buffer& buffer : model.store.buffers()) {
      const bool dense = buffer.kind == kDense;
      EXPECT_EQ(buffer.group, dense ? mesh.world.get() : mesh.data.get());
      const int64_t total = buffer.weights.numel(), ranks = buffer.group->size();
      EXPECT_EQ(total, padded(model.store.local_elements(buffer.kind), ranks));
      EXPECT_EQ(buffer.shard.begin, total / ranks * buffer.group->rank());
      EXPECT_EQ(buffer.shard.size(), total / ranks);
      const bool whole_state = layout.options.zero_stage == 0;
      EXPECT_EQ(buffer.state.begin, whole_state ? 0 : buffer.shard.begin);
      EXPECT_EQ(buffer.state.end, whole_state ? total : buffer.shard.end);
      const bool whole_gradient = layout.options.zero_stage < 2;
      EXPECT_EQ(buffer.gradient.begin, whole_gradient ? 0 : buffer.shard.begin);
      EXPECT_EQ(buffer.gradient.end, whole_gradient ? total : buffer.shard.end);
      EXPECT_EQ(buffer.gradients.numel(), buffer.gradient.size());
    }
  });
}

// Ranks that build different models would exchange rows of different buffers.
TEST(ShardingTest, RanksWithDifferentParametersAreRefusedOnEveryRank) {
  const int W = test_runtime().world_size();
  if (W == 1) return;
  const Mesh mesh = test_runtime().make_mesh({});
  for (const ParameterKind kind : {kDense, kExpert}) {
    ParameterStore store;
    const int64_t rows = mesh.world->rank() == W - 1 ? 16 : 8;
    store.add(kind, {"weight", {rows, 4}, {}});
    EXPECT_THROW(store.allocate(mesh, {}), c10::Error);
  }
}

TEST(ShardingTest, C7_BytesAreTheFormulas) {
  const int64_t W = test_runtime().world_size();
  for_each_layout([&](const Layout& layout, const Mesh& mesh) {
    const int64_t EP = mesh.expert_size(), EDP = W / EP;
    const bool half = layout.options.dtype == at::kBFloat16, all = layout.options.zero_stage == 0;
    const int64_t w = half ? 2 : 4, k = half ? 12 : 8;
    // No padding: the formula of the documentation, to the byte.
    const int64_t dense = kEven.dense(), expert = kEven.expert();
    ASSERT_EQ(dense % W + expert / EP % EDP, 0);
    const ParameterBytes even = SampleModel(mesh, layout.options, kEven).store.bytes();
    EXPECT_EQ(even.weights, w * (dense + expert / EP));
    const bool sharded = layout.options.zero_stage == 2;
    EXPECT_EQ(even.gradients, sharded ? 4 * (dense + expert) / W : 4 * (dense + expert / EP));
    EXPECT_EQ(even.optimizer, all ? k * (dense + expert / EP) : k * (dense + expert) / W);
    const ParameterBytes planned =
        planned_bytes(dense, expert, layout.options.dtype, {W, EP, layout.options.zero_stage});
    EXPECT_EQ(planned.weights, even.weights);
    EXPECT_EQ(planned.gradients, even.gradients);
    EXPECT_EQ(planned.optimizer, even.optimizer);
    // Padding: each buffer to a multiple of its group, nothing else.
    const int64_t dense_padded = padded(kOdd.dense(), W),
                  expert_padded = padded(kOdd.expert() / EP, EDP);
    const ParameterBytes odd = SampleModel(mesh, layout.options, kOdd).store.bytes();
    EXPECT_EQ(odd.weights, w * (dense_padded + expert_padded));
    EXPECT_EQ(odd.gradients, sharded ? 4 * (dense_padded / W + expert_padded / EDP)
                                     : 4 * (dense_padded + expert_padded));
    EXPECT_EQ(odd.optimizer, all ? k * (dense_padded + expert_padded)
                                 : k * (dense_padded / W + expert_padded / EDP));
  });
}

/// The gradient of one part in one step, a function of its name only.
Tensor gradient_of_part(const PlacedPart& placed, int64_t step) {
  return normal_tensor(placed.part.shape, placed.part.name + "/" + std::to_string(step),
                       at::kFloat);
}

/// One backward that gives each part the gradient `value(placed)` on this rank, in the
/// weights' dtype: through autograd, as a model does. Collective at stage 2.
void backward_with(SampleModel& model, const std::function<Tensor(const PlacedPart&)>& value) {
  Tensor objective = at::zeros({});
  auto placed = model.store.parts().begin();
  for (const Tensor& leaf : {model.embedding, model.norm, model.qkv, model.gate_up, model.down}) {
    std::vector<Tensor> of_leaf;
    for (int64_t n = 0; n < leaf.numel(); n += of_leaf.back().numel()) {
      of_leaf.push_back(value(*placed++).flatten());
    }
    if (!leaf.requires_grad()) continue;
    objective = objective + (leaf.flatten() * at::cat(of_leaf).to(leaf.dtype())).sum();
  }
  objective.backward();
}

int64_t rank_in_group(const Mesh& mesh, ParameterKind kind) {
  return kind == kDense ? mesh.world->rank() : mesh.data->rank();
}

/// Holds `expected(placed)`, a whole part's gradient, against the elements that this
/// rank has of the sum.
void expect_own_gradients(const SampleModel& model,
                          const std::function<Tensor(const PlacedPart&)>& expected) {
  for (const PlacedPart& placed : model.store.parts()) {
    const ParameterStore::Buffer& buffer = model.store.buffer(placed.kind);
    const Interval mine = intersect(placed.range, buffer.state);
    if (mine.empty()) continue;
    const Tensor held = buffer.gradients.narrow(0, mine.begin - buffer.gradient.begin, mine.size());
    EXPECT_TRUE(same(
        held, expected(placed).flatten().narrow(0, mine.begin - placed.range.begin, mine.size())))
        << placed.part.name;
  }
}

TEST(ReduceGradientsTest, DenseOverTheWorldExpertsOverTheirDataGroup) {
  for_each_layout([&](const Layout& layout, const Mesh& mesh) {
    SampleModel model(mesh, layout.options);
    // Rank r of the group has r + 1 times small integers, so sums are exact.
    backward_with(model, [&](const PlacedPart& placed) {
      return (gradient_of_part(placed, 0) * 8).round() *
             static_cast<double>(rank_in_group(mesh, placed.kind) + 1);
    });
    reduce_gradients(model.store);
    expect_own_gradients(model, [&](const PlacedPart& placed) {
      const int64_t ranks = model.store.buffer(placed.kind).group->size();
      return (gradient_of_part(placed, 0) * 8).round() *
             (static_cast<double>(ranks * (ranks + 1)) / 2);
    });
  });
}

// 1 + 2^-9 + 2^-9 needs more bits than bfloat16 has: a bfloat16 sum would stay 1.
TEST(ReduceGradientsTest, MicroBatchesAndRanksAddUpInFloat32) {
  for_each_layout([&](const Layout& layout, const Mesh& mesh) {
    SampleModel model(mesh, layout.options);
    for (int step = 0; step < 2; ++step) {  // nothing is left of the first
      model.store.zero_gradients();
      for (const double slope : {1.0, 0x1.0p-9, 0x1.0p-9}) {
        backward_with(model,
                      [&](const PlacedPart& placed) { return at::full(placed.part.shape, slope); });
      }
      reduce_gradients(model.store);
    }
    expect_own_gradients(model, [&](const PlacedPart& placed) {
      const int ranks = model.store.buffer(placed.kind).group->size();
      return at::full(placed.part.shape, ranks * (1 + 0x1.0p-8), at::kFloat);
    });
  });
}

TEST(ReduceGradientsTest, AtStage2NoLeafKeepsAGradient) {
  for_each_layout(
      [&](const Layout& layout, const Mesh& mesh) {
        SampleModel model(mesh, layout.options);
        const auto ones = [](const PlacedPart& placed) { return at::ones(placed.part.shape); };
        for (int micro_batch = 0; micro_batch < 2; ++micro_batch) {
          backward_with(model, ones);
          EXPECT_EQ(model.embedding.grad().defined(), mesh.world->size() == 1);
          EXPECT_EQ(model.down.grad().defined(), mesh.data->size() == 1);
        }
        if (mesh.world->size() == 1) return;
        EXPECT_THROW(model.store.gradient_of(model.named("model.embed_tokens.weight")), c10::Error);
      },
      {2});
}

/// The most bytes of tensors that a backward through eight layers of 128 KiB adds to what
/// is held for good, and what is held for good of gradients.
std::pair<int64_t, int64_t> gradient_bytes(const Mesh& mesh, int zero_stage) {
  constexpr int64_t kLayers = 8, D = 128;
  PeakBytes peak;
  ParameterStore store;
  std::vector<Tensor> weights;
  for (int64_t l = 0; l < kLayers; ++l) {
    const std::string name = std::to_string(l);
    weights.push_back(store.add(kDense, {name + ".dense", {D, D}, {}}));
    weights.push_back(store.add(kExpert, {name + ".expert", {D, D}, {}}));
  }
  ParameterStore::Options options;
  options.zero_stage = zero_stage;
  store.allocate(mesh, options);
  Tensor x = at::ones({1, D});
  for (const Tensor& weight : weights) x = at::mm(x, weight);
  x = x.sum();
  peak.restart();
  x.backward();
  return {peak.rise(), store.bytes().gradients};
}

TEST(ReduceGradientsTest, AtStage2GradientsAreNeverAllThere) {
  const int64_t whole = 2 * 8 * 128 * 128 * 4, leaf = 128 * 128 * 4;
  for (int64_t EP = 1; EP <= test_runtime().world_size(); EP *= 2) {
    const Mesh mesh = test_runtime().make_mesh({EP, "expert_inner"});
    const auto [rise_1, held_1] = gradient_bytes(mesh, 1);
    const auto [rise_2, held_2] = gradient_bytes(mesh, 2);
    if (mesh.world->rank() == 0) {
      std::printf(
          "W %d, EP %d: gradients %lld KiB; stage 1 holds %lld + %lld in backward, stage 2 "
          "%lld + %lld\n",
          mesh.world->size(), mesh.expert_size(), static_cast<long long>(whole >> 10),
          static_cast<long long>(held_1 >> 10), static_cast<long long>(rise_1 >> 10),
          static_cast<long long>(held_2 >> 10), static_cast<long long>(rise_2 >> 10));
    }
    EXPECT_EQ(held_1, whole);
    EXPECT_EQ(held_2, whole / 2 / mesh.world->size() + whole / 2 / mesh.data->size());
    EXPECT_LE(rise_2, 2 * leaf + leaf / 4);  // a leaf's gradient, its owned part, activations
  }
}

TEST(GradientNormsTest, C7_AllOnesGiveTheRootOfTheParameterCountOnEveryLayout) {
  for_each_layout([&](const Layout& layout, const Mesh& mesh) {
    SampleModel model(mesh, layout.options);
    backward_with(model, [&](const PlacedPart& placed) {  // 1 / ranks is a power of two
      return at::full(placed.part.shape, 1.0 / model.store.buffer(placed.kind).group->size());
    });
    reduce_gradients(model.store);
    const GradientNorms norms = gradient_norms(model.store, *mesh.world);
    EXPECT_DOUBLE_EQ(norms.dense, std::sqrt(static_cast<double>(kOdd.dense())));
    EXPECT_DOUBLE_EQ(norms.expert, std::sqrt(static_cast<double>(kOdd.expert())));
    EXPECT_DOUBLE_EQ(norms.total, std::sqrt(static_cast<double>(kOdd.dense() + kOdd.expert())));
  });
}

TEST(GradientNormsTest, OneRanksNotANumberIsSeenByAllAndForgottenByTheNextStep) {
  for_each_layout([&](const Layout& layout, const Mesh& mesh) {
    SampleModel model(mesh, layout.options);
    const bool last = mesh.world->rank() == mesh.world->size() - 1;
    for (const bool bad : {true, false}) {
      model.store.zero_gradients();
      backward_with(model, [&](const PlacedPart& placed) {
        return at::full(placed.part.shape, bad && last ? NAN : 1.0);
      });
      reduce_gradients(model.store);
      EXPECT_EQ(std::isnan(gradient_norms(model.store, *mesh.world).total), bad);
    }
  });
}

TEST(GradientNormsTest, FrozenExpertsCountOnNoLayout) {
  // Experts 0 and 1: all of a rank's experts on one layout, half of them on another.
  for_each_layout([&](const Layout& layout, const Mesh& mesh) {
    ParameterStore::Options options = layout.options;
    options.rule = [](const NamedPart& part) {
      return UpdateRule{.frozen = part.name.find("experts.0.") != std::string::npos ||
                                  part.name.find("experts.1.") != std::string::npos};
    };
    SampleModel model(mesh, options);
    for (const Tensor& leaf : {model.gate_up, model.down}) {
      if (leaf.requires_grad()) (leaf / mesh.data->size()).sum().backward();
    }
    reduce_gradients(model.store);
    EXPECT_DOUBLE_EQ(gradient_norms(model.store, *mesh.world).total,
                     std::sqrt(static_cast<double>(kOdd.expert()) / 2));
  });
}

/// Puts the gradients of a step on the first rank of each group, so that their sum is
/// bit for bit what the whole model is given.
void give_gradients(SampleModel& model, const Mesh& mesh, int64_t step) {
  model.store.zero_gradients();
  backward_with(model, [&](const PlacedPart& placed) {
    const bool first = rank_in_group(mesh, placed.kind) == 0;
    return first ? gradient_of_part(placed, step) : at::zeros(placed.part.shape);
  });
}

void expect_zero_padding(const SampleModel& model) {
  for (const ParameterStore::Buffer& buffer : model.store.buffers()) {
    const Interval padding{model.store.local_elements(buffer.kind), buffer.weights.numel()};
    const auto is_zero = [](const Tensor& x, int64_t begin, int64_t count) {
      return x.narrow(0, begin, count).count_nonzero().item<int64_t>() == 0;
    };
    EXPECT_TRUE(is_zero(buffer.weights, padding.begin, padding.size()));
    const Interval of_gradient = intersect(padding, buffer.gradient);
    if (!of_gradient.empty()) {
      EXPECT_TRUE(
          is_zero(buffer.gradients, of_gradient.begin - buffer.gradient.begin, of_gradient.size()));
    }
    const Interval held = intersect(padding, buffer.state);
    if (held.empty()) continue;
    for (const Tensor& state : {buffer.master, buffer.exp_avg, buffer.exp_avg_sq}) {
      if (state.defined()) {
        EXPECT_TRUE(is_zero(state, held.begin - buffer.state.begin, held.size()));
      }
    }
  }
}

TEST(AdamWShardingTest, C7_APartitionedUpdateEqualsTheWholeBitForBit) {
  const Mesh solo = solo_mesh();
  const AdamW adamw;
  for_each_layout([&](const Layout& layout, const Mesh& mesh) {
    for (const SampleSizes sizes : {kOdd, kEven, SampleSizes{37, 21, 8}}) {
      SampleModel model(mesh, layout.options, sizes), whole(solo, layout.options, sizes);
      for (int64_t step = 1; step <= 4; ++step) {
        give_gradients(model, mesh, step);
        give_gradients(whole, solo, step);
        for (SampleModel* each : {&model, &whole}) {
          reduce_gradients(each->store);
          adamw.update(each->store, step, /*lr=*/0.01 * static_cast<double>(step),
                       /*gradient_scale=*/0.7);
          each->store.gather_weights();
        }
        EXPECT_TRUE(model.weights_equal(whole)) << "step " << step;
      }
      expect_zero_padding(model);
    }
  });
}

TEST(AdamWShardingTest, LeavesSeeTheWeightsOfOtherRanksShards) {
  for_each_layout([&](const Layout& layout, const Mesh& mesh) {
    SampleModel model(mesh, layout.options);
    // Each rank moves what it owns to 1; after gathering all of them must be 1.
    for (ParameterStore::Buffer& buffer : model.store.buffers()) {
      buffer.weights.narrow(0, buffer.state.begin, buffer.state.size()).fill_(1);
    }
    model.store.gather_weights();
    for (const Tensor& leaf : {model.embedding, model.norm, model.qkv, model.gate_up, model.down}) {
      EXPECT_TRUE((leaf == 1).all().item<bool>());
    }
  });
}

}  // namespace
}  // namespace switchyard
