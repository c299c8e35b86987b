#include "train/upcycled_source.h"

#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "base/scratch_folder.h"
#include "model/model_tensors.h"
#include "train/dense_source.h"
#include "train/upcycle.h"

namespace switchyard {
namespace {

using at::Tensor;

UpcycleOptions options_of(int64_t E = 4, int64_t K = 2) {
  UpcycleOptions options;
  options.num_experts = E;
  options.top_k = K;
  options.layers = "1,2";
  return options;
}

const std::string kMlp = "model.layers.1.mlp.";

TEST(UpcycledSourceTest, HasExactlyTheParametersOfTheModelThatItsConfigDescribes) {
  for (const char* kind : {"plain", "fine", "shared", "gated", "sigmoid"}) {
    UpcycleOptions options = options_of();
    if (kind == std::string("fine")) options.granularity = 2;
    options.shared_expert = kind == std::string("shared") || kind == std::string("gated");
    options.shared_gate = kind == std::string("gated");
    options.sigmoid = kind == std::string("sigmoid");
    const std::vector<ModelSource> sources = one(dense_source());
    UpcycledModel made = upcycle(sources, options);
    std::map<std::string, std::pair<std::vector<int64_t>, std::string>> wanted, there;
    for (const ModelTensor& tensor : model_tensors(dense_model(), made.model.config.moe)) {
      wanted[tensor.name] = {tensor.shape, tensor.kind};
    }
    for (const TensorInfo& tensor : made.model.tensors->tensors()) {
      there[tensor.name] = {tensor.shape, tensor.kind};
    }
    EXPECT_EQ(there, wanted) << kind;
  }
}

TEST(UpcycledSourceTest, C6_4_ExpertsHaveTheBytesOfTheSourceAndSoHasAllElse) {
  for (const at::ScalarType stored : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const std::vector<ModelSource> sources = one(dense_source({.stored = stored, .master = false}));
    UpcycledModel made = upcycle(sources, options_of());
    TensorSource& moe = *made.model.tensors;
    int experts = 0;
    for (const TensorInfo& tensor : moe.tensors()) {
      if (tensor.name.ends_with(".mlp.gate.weight")) continue;
      std::string dense = tensor.name;
      if (const size_t at = dense.find("experts."); at != std::string::npos) {
        dense.erase(at, std::string("experts.0.").size());
        ++experts;
      }
      EXPECT_EQ(tensor.dtype, dtype_name(stored));
      EXPECT_TRUE(at::equal(moe.read(tensor.name), sources[0].tensors->read(dense))) << tensor.name;
    }
    EXPECT_EQ(experts, 2 * 4 * 3);
    EXPECT_TRUE(moe.has("model.layers.0.mlp.up_proj.weight"));  // was not chosen
    EXPECT_FALSE(moe.has("model.layers.1.mlp.up_proj.weight"));
  }
}

TEST(UpcycledSourceTest, WeightsAreTheirMasterRounded) {
  for (const UpcycleMethod method :
       {UpcycleMethod::kCopy, UpcycleMethod::kNoise, UpcycleMethod::kDrop}) {
    UpcycleOptions options = options_of(8, 4);
    options.method = method;
    options.granularity = 2;
    options.shared_expert = true;
    const std::vector<ModelSource> sources = one(dense_source({.stored = at::kBFloat16}));
    UpcycledModel made = upcycle(sources, options);
    TensorSource& moe = *made.model.tensors;
    int checked = 0;
    for (const TensorInfo& tensor : moe.tensors()) {
      if (tensor.name.ends_with(".master")) continue;
      EXPECT_EQ(tensor.dtype, "BF16");
      EXPECT_TRUE(
          at::equal(moe.read(tensor.name), moe.read(tensor.name + ".master").to(at::kBFloat16)))
          << tensor.name;
      ++checked;
    }
    EXPECT_GT(checked, 2 * 8 * 3);
  }
}

TEST(UpcycledSourceTest, ATensorReadInPiecesIsTheWholeOne) {
  UpcycleOptions options = options_of();
  options.method = UpcycleMethod::kDrop;
  const std::vector<ModelSource> sources = one(dense_source({.stored = at::kBFloat16}));
  UpcycledModel made = upcycle(sources, options);
  TensorSource& moe = *made.model.tensors;
  const TensorInfo& up = moe.at(kMlp + "experts.2.up_proj.weight");
  const TensorInfo& down = moe.at(kMlp + "experts.2.down_proj.weight");
  const Tensor whole = moe.read(up.name).flatten();
  Tensor pieces = at::empty_like(whole), between = at::empty({4}, whole.scalar_type());
  for (int64_t begin = 0; begin < whole.numel(); begin += 100) {
    const Interval piece{begin, std::min(begin + 100, whole.numel())};
    moe.read(up, piece, pieces.narrow(0, piece.begin, piece.size()).data_ptr());
    moe.read(down, {3, 7}, between.data_ptr());
  }
  EXPECT_TRUE(at::equal(pieces, whole));
  EXPECT_TRUE(at::equal(between, moe.read(down.name).flatten().narrow(0, 3, 4)));
}

TEST(UpcycledSourceTest, C6_5_AnyNumberOfRanksMakesTheSameTensors) {
  UpcycleOptions options = options_of(8, 4);
  options.granularity = 2;
  options.method = UpcycleMethod::kDrop;
  const std::vector<ModelSource> sources = one(dense_source());
  UpcycledModel one_rank = upcycle(sources, options);
  for (const int world : {2, 4}) {
    std::set<std::string> seen;
    for (int rank = 0; rank < world; ++rank) {
      UpcycledModel here = upcycle(sources, options);
      const std::vector<OwnedSlice> slices = slices_of(*here.model.tensors, rank, world);
      EXPECT_FALSE(slices.empty());
      for (const OwnedSlice& slice : slices) {
        EXPECT_TRUE(seen.insert(slice.name).second) << slice.name;
        const Tensor expected = one_rank.model.tensors->read(slice.name);
        Tensor made = at::empty_like(expected);
        slice.make(made.data_ptr());
        EXPECT_TRUE(at::equal(made, expected)) << slice.name;
      }
    }
    EXPECT_EQ(seen.size(), one_rank.model.tensors->tensors().size());
  }
}

TEST(UpcycledSourceTest, TheSharedExpertIsTheDenseNetworkHalvedOrGated) {
  const std::vector<ModelSource> sources = one(dense_source());
  TensorSource& dense = *sources[0].tensors;
  for (const bool gated : {false, true}) {
    UpcycleOptions options = options_of();
    options.shared_expert = true;
    options.shared_gate = gated;
    UpcycledModel made = upcycle(sources, options);
    TensorSource& moe = *made.model.tensors;
    const Tensor down = dense.read(kMlp + "down_proj.weight");
    EXPECT_TRUE(
        at::equal(moe.read(kMlp + "shared_expert.down_proj.weight"), gated ? down : down * 0.5));
    EXPECT_TRUE(at::equal(moe.read(kMlp + "experts.3.down_proj.weight"), down * 0.5));
    EXPECT_TRUE(at::equal(moe.read(kMlp + "shared_expert.up_proj.weight"),
                          dense.read(kMlp + "up_proj.weight")));
    EXPECT_EQ(moe.has(kMlp + "shared_expert_gate.weight"), gated);
    if (!gated) continue;
    EXPECT_EQ(moe.read(kMlp + "shared_expert_gate.weight").abs().sum().item<float>(), 0);
  }
}

TEST(UpcycledSourceTest, MomentsComeAlongTiledWhereTheyAreAskedFor) {
  const std::vector<ModelSource> sources = one(dense_source({.moments = true}));
  TensorSource& dense = *sources[0].tensors;
  UpcycleOptions options = options_of();
  UpcycledModel dropped = upcycle(sources, options);
  for (const TensorInfo& tensor : dropped.model.tensors->tensors()) {
    EXPECT_EQ(tensor.name.find(".exp_avg"), std::string::npos) << tensor.name;
  }
  EXPECT_TRUE(dropped.model.state.empty());

  options.optimizer_state = OptimizerState::kCarry;
  UpcycledModel carried = upcycle(sources, options);
  TensorSource& moe = *carried.model.tensors;
  for (const char* suffix : {".exp_avg", ".exp_avg_sq"}) {
    for (int e = 0; e < 4; ++e) {
      EXPECT_TRUE(
          at::equal(moe.read(kMlp + "experts." + std::to_string(e) + ".down_proj.weight" + suffix),
                    dense.read(kMlp + "down_proj.weight" + suffix)));
    }
    EXPECT_EQ(moe.read(kMlp + "gate.weight" + suffix).abs().sum().item<float>(), 0);
    const std::string kept = std::string("model.norm.weight") + suffix;
    EXPECT_TRUE(at::equal(moe.read(kept), dense.read(kept)));
  }
  EXPECT_EQ(carried.model.state.at("updates"), 7);
}

TEST(UpcycledSourceTest, P8_ExpertsAreTheBranchesInTurnAndTheRestIsTheirMean) {
  std::vector<ModelSource> sources;
  for (const char* branch : {"a", "b", "c"}) sources.push_back(dense_source({.branch = branch}));
  UpcycledModel made = upcycle(sources, options_of(6, 2));
  TensorSource& moe = *made.model.tensors;
  for (int e = 0; e < 6; ++e) {
    EXPECT_TRUE(at::equal(moe.read(kMlp + "experts." + std::to_string(e) + ".up_proj.weight"),
                          sources[e % 3].tensors->read(kMlp + "up_proj.weight")));
  }
  int averaged = 0;
  for (const TensorInfo& tensor : moe.tensors()) {
    if (tensor.kind == "expert" || tensor.name.ends_with(".gate.weight")) continue;
    Tensor sum = at::zeros(tensor.shape, at::kDouble);
    for (const ModelSource& source : sources) sum += source.tensors->read(tensor.name);
    EXPECT_LE((moe.read(tensor.name) - sum / 3).abs().max().item<double>(), 1e-7) << tensor.name;
    ++averaged;
  }
  EXPECT_EQ(averaged, 3 + 3 * 6 + 3);  // with layer 0's feed-forward, which stays dense
}

TEST(UpcycledSourceTest, P8_WithShardsAVirtualGroupIsOneBranchs) {
  std::vector<ModelSource> sources;
  for (const char* branch : {"a", "b"}) sources.push_back(dense_source({.branch = branch}));
  UpcycleOptions options = options_of(8, 2);
  options.granularity = 2;
  UpcycledModel made = upcycle(sources, options);
  for (int e = 0; e < 8; ++e) {
    const Tensor up = sources[e / 2 % 2].tensors->read(kMlp + "up_proj.weight");
    EXPECT_TRUE(at::equal(
        made.model.tensors->read(kMlp + "experts." + std::to_string(e) + ".up_proj.weight"),
        up.narrow(0, e % 2 * 12, 12)));
  }
}

TEST(UpcycledSourceTest, AMissingOrMisshapenTensorIsNamed) {
  const std::vector<ModelSource> sources = one(dense_source());
  auto& dense = dynamic_cast<MapSource&>(*sources[0].tensors);
  ModelConfig wide = dense_model();
  wide.intermediate_size = 32;
  MoeConfig moe;
  moe.num_experts = 4;
  const ExpertRecipe recipe{.num_experts = 4};
  const auto make = [&](const ModelConfig& model) {
    UpcycledSource(dense, {&dense}, model, moe, recipe, 0.02, OptimizerState::kDrop);
  };
  EXPECT_NE(message_of<DataError>([&] { make(wide); }).find("gate_proj.weight\" has another shape"),
            std::string::npos);
  ModelConfig deep = dense_model();
  deep.num_hidden_layers = 4;
  EXPECT_NE(message_of<DataError>([&] { make(deep); }).find("model.layers.3.mlp.gate_proj.weight"),
            std::string::npos);
}

}  // namespace
}  // namespace switchyard
