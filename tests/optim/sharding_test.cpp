#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "optim/adamw.h"
#include "optim/gradients.h"
#include "optim/sample_model.h"
#include "support/mpi_main.h"

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
void for_each_layout(const Body& body) {
  for (int64_t EP = 1; EP <= test_runtime().world_size(); EP *= 2) {
    for (const char* order : {"expert_inner", "data_inner"}) {
      for (const int zero_stage : {0, 1}) {
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

TEST(ShardingTest, ShardsTileEachBuffer) {
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

TEST(ShardingTest, BytesAreTheFormulas) {
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
    EXPECT_EQ(even.gradients, 4 * (dense + expert / EP));
    EXPECT_EQ(even.optimizer, all ? k * (dense + expert / EP) : k * (dense + expert) / W);
    // Padding: each buffer to a multiple of its group, nothing else.
    const int64_t dense_padded = padded(kOdd.dense(), W),
                  expert_padded = padded(kOdd.expert() / EP, EDP);
    const ParameterBytes odd = SampleModel(mesh, layout.options, kOdd).store.bytes();
    EXPECT_EQ(odd.weights, w * (dense_padded + expert_padded));
    EXPECT_EQ(odd.gradients, 4 * (dense_padded + expert_padded));
    EXPECT_EQ(odd.optimizer, all ? k * (dense_padded + expert_padded)
                                 : k * (dense_padded / W + expert_padded / EDP));
  });
}

/// The gradient of one part in one step, a function of its name only.
Tensor gradient_of_part(const PlacedPart& placed, int64_t step) {
  return normal_tensor(placed.part.shape, placed.part.name + "/" + std::to_string(step),
                       at::kFloat);
}

TEST(ReduceGradientsTest, DenseOverTheWorldExpertsOverTheirDataGroup) {
  const int64_t W = test_runtime().world_size();
  for_each_layout([&](const Layout& layout, const Mesh& mesh) {
    SampleModel model(mesh, layout.options);
    // Rank r of the group has r + 1 times small integers, so sums are exact.
    for (const PlacedPart& placed : model.store.parts()) {
      const int64_t rank = placed.kind == kDense ? mesh.world->rank() : mesh.data->rank();
      model.store.gradient_of(placed).copy_((gradient_of_part(placed, 0) * 8).round() *
                                            static_cast<double>(rank + 1));
    }
    reduce_gradients(model.store);
    for (const PlacedPart& placed : model.store.parts()) {
      const ParameterStore::Buffer& buffer = model.store.buffer(placed.kind);
      const int64_t ranks = placed.kind == kDense ? W : mesh.data->size();
      const Tensor sum = (gradient_of_part(placed, 0) * 8).round() *
                         (static_cast<double>(ranks * (ranks + 1)) / 2);
      const Interval mine = intersect(placed.range, buffer.state);
      EXPECT_TRUE(same(
          buffer.gradients.narrow(0, std::min(mine.begin, placed.range.end), mine.size()),
          sum.flatten().narrow(0, mine.empty() ? 0 : mine.begin - placed.range.begin, mine.size())))
          << placed.part.name;
    }
  });
}

TEST(GradientNormsTest, AllOnesGiveTheRootOfTheParameterCountOnEveryLayout) {
  for_each_layout([&](const Layout& layout, const Mesh& mesh) {
    SampleModel model(mesh, layout.options);
    for (const PlacedPart& placed : model.store.parts()) {
      const int ranks = placed.kind == kDense ? mesh.world->size() : mesh.data->size();
      model.store.gradient_of(placed).fill_(1.0 / ranks);  // a power of two
    }
    reduce_gradients(model.store);
    const GradientNorms norms = gradient_norms(model.store, *mesh.world);
    EXPECT_DOUBLE_EQ(norms.dense, std::sqrt(static_cast<double>(kOdd.dense())));
    EXPECT_DOUBLE_EQ(norms.expert, std::sqrt(static_cast<double>(kOdd.expert())));
    EXPECT_DOUBLE_EQ(norms.total, std::sqrt(static_cast<double>(kOdd.dense() + kOdd.expert())));
  });
}

TEST(GradientNormsTest, OneRanksNotANumberIsSeenByAll) {
  for_each_layout([&](const Layout& layout, const Mesh& mesh) {
    SampleModel model(mesh, layout.options);
    if (mesh.world->rank() == mesh.world->size() - 1) model.down.mutable_grad().fill_(NAN);
    reduce_gradients(model.store);
    EXPECT_TRUE(std::isnan(gradient_norms(model.store, *mesh.world).total));
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
  for (const PlacedPart& placed : model.store.parts()) {
    const bool first = (placed.kind == kDense ? mesh.world->rank() : mesh.data->rank()) == 0;
    if (first) model.store.gradient_of(placed).copy_(gradient_of_part(placed, step));
  }
}

void expect_zero_padding(const SampleModel& model) {
  for (const ParameterStore::Buffer& buffer : model.store.buffers()) {
    const Interval padding{model.store.local_elements(buffer.kind), buffer.weights.numel()};
    const auto is_zero = [](const Tensor& x, int64_t begin, int64_t count) {
      return x.narrow(0, begin, count).count_nonzero().item<int64_t>() == 0;
    };
    EXPECT_TRUE(is_zero(buffer.weights, padding.begin, padding.size()));
    EXPECT_TRUE(is_zero(buffer.gradients, padding.begin, padding.size()));
    const Interval held = intersect(padding, buffer.state);
    if (held.empty()) continue;
    for (const Tensor& state : {buffer.master, buffer.exp_avg, buffer.exp_avg_sq}) {
      if (state.defined()) {
        EXPECT_TRUE(is_zero(state, held.begin - buffer.state.begin, held.size()));
      }
    }
  }
}

TEST(AdamWShardingTest, APartitionedUpdateEqualsTheWholeBitForBit) {
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
          each->store.publish_weights();
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
    // Each rank moves what it owns to 1; after publishing all of them must be 1.
    for (ParameterStore::Buffer& buffer : model.store.buffers()) {
      Tensor& weights = buffer.master.defined() ? buffer.master : buffer.weights;
      const Interval state =
          buffer.master.defined() ? Interval{0, buffer.state.size()} : buffer.state;
      weights.narrow(0, state.begin, state.size()).fill_(1);
    }
    model.store.publish_weights();
    for (const Tensor& leaf : {model.embedding, model.norm, model.qkv, model.gate_up, model.down}) {
      EXPECT_TRUE((leaf == 1).all().item<bool>());
    }
  });
}

}  // namespace
}  // namespace switchyard
