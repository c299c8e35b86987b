#include "checkpoint/diff_checkpoints.h"

#include <c10/util/BFloat16.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "checkpoint/sample_folder.h"

namespace switchyard {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <typename T>
SampleTensor tensor_of(const std::string& name, const std::string& dtype,
                       const std::vector<T>& values) {
  SampleTensor tensor{name, {static_cast<int64_t>(values.size())}, dtype, "state", {}};
  tensor.bytes.resize(values.size() * sizeof(T));
  std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
  return tensor;
}

SampleTensor floats(const std::string& name, const std::vector<float>& values) {
  return tensor_of(name, "F32", values);
}

std::vector<std::string> names_of(const std::vector<TensorDifference>& tensors) {
  std::vector<std::string> names;
  for (const TensorDifference& tensor : tensors) names.push_back(tensor.name);
  return names;
}

/// Saves checkpoints into one folder and compares them.
class DiffTest : public testing::Test {
 protected:
  std::string save(const std::vector<SampleTensor>& model, int world = 1) {
    CheckpointInfo info = sample_info(++step_, world);
    info.non_finite = NonFinite::kKeep;
    return save(model, info);
  }
  std::string save(const std::vector<SampleTensor>& model, const CheckpointInfo& info) {
    const std::string dir = folder_ / std::to_string(++saves_);
    make_folder(dir);
    const std::vector<std::string> thrown = run_ranks(info.world, [&](Communicator& world) {
      save_checkpoint(world, dir, info, owned_by(world.rank(), info.world, model));
    });
    for (const std::string& message : thrown) EXPECT_EQ(message, "");
    return dir + "/" + step_folder_name(info.step);
  }
  static std::vector<TensorDifference> tensors(const std::string& a, const std::string& b) {
    CheckpointReader first(a), second(b);
    return diff_tensors(first, second);
  }
  static ManifestDifference manifests(const std::string& a, const std::string& b) {
    return diff_manifests(CheckpointReader(a).manifest(), CheckpointReader(b).manifest());
  }
  /// The one difference of two tensors that are called alike.
  TensorDifference only(const SampleTensor& a, const SampleTensor& b) {
    const std::vector<TensorDifference> found = tensors(save({a}), save({b}));
    EXPECT_EQ(found.size(), 1u);
    return found.empty() ? TensorDifference() : found[0];
  }

 private:
  ScratchFolder folder_;
  int64_t step_ = 0;
  int saves_ = 0;
};

TEST_F(DiffTest, TheLayoutDoesNotCount) {
  const std::string one = save(sample_model(), sample_info(7, 1));
  for (const int world : {2, 3}) {
    const std::string other = save(sample_model(), sample_info(7, world));
    EXPECT_TRUE(tensors(one, other).empty()) << world;
    EXPECT_TRUE(tensors(other, one).empty()) << world;
    EXPECT_TRUE(manifests(one, other).empty()) << world;
  }
}

TEST_F(DiffTest, LargestDifferenceAndCount) {
  const TensorDifference found = only(floats("x", {1, 2, 3, 4}), floats("x", {1, 2.5, 3, -4.25}));
  EXPECT_EQ(found.name, "x");
  EXPECT_EQ(found.elements, 4);
  EXPECT_EQ(found.differing, 2);
  EXPECT_EQ(found.largest, 8.25);
}

TEST_F(DiffTest, EveryDtypeIsReadAsItsNumbers) {
  const std::vector<c10::BFloat16> brain = {1.0f, 2.0f}, other = {1.0f, 2.5f};
  EXPECT_EQ(only(tensor_of("x", "BF16", brain), tensor_of("x", "BF16", other)).largest, 0.5);
  EXPECT_EQ(
      only(tensor_of<double>("x", "F64", {1e-300}), tensor_of<double>("x", "F64", {0})).largest,
      1e-300);
  EXPECT_EQ(
      only(tensor_of<uint16_t>("x", "F16", {0x3c00}), tensor_of<uint16_t>("x", "F16", {0})).largest,
      1);
  EXPECT_EQ(only(tensor_of<int8_t>("x", "I8", {-128}), tensor_of<int8_t>("x", "I8", {127})).largest,
            255);
  EXPECT_EQ(
      only(tensor_of<uint8_t>("x", "BOOL", {1}), tensor_of<uint8_t>("x", "BOOL", {0})).largest, 1);
  EXPECT_TRUE(std::isnan(
      only(tensor_of<uint8_t>("x", "F8_E4M3", {1}), tensor_of<uint8_t>("x", "F8_E4M3", {2}))
          .largest));
}

TEST_F(DiffTest, IntegersBeyondAFloat64AreNotRoundedTogether) {
  const int64_t large = int64_t{1} << 53;
  const auto integers = [](int64_t value) { return tensor_of<int64_t>("x", "I64", {value}); };
  EXPECT_EQ(only(integers(large), integers(large + 1)).largest, 1);
  EXPECT_EQ(only(integers(INT64_MIN), integers(INT64_MAX)).largest, 0x1p64);
}

TEST_F(DiffTest, BitsDecideWhatIsEqual) {
  EXPECT_TRUE(
      tensors(save({floats("x", {NAN, INFINITY})}), save({floats("x", {NAN, INFINITY})})).empty());
  EXPECT_EQ(only(floats("x", {0.0f}), floats("x", {-0.0f})).largest, 0);
  EXPECT_EQ(only(floats("x", {0.0f}), floats("x", {-0.0f})).differing, 1);
  EXPECT_EQ(only(floats("x", {1}), floats("x", {INFINITY})).largest, kInfinity);
  EXPECT_TRUE(std::isnan(only(floats("x", {NAN, 1}), floats("x", {1, 9})).largest));
  EXPECT_TRUE(std::isnan(only(floats("x", {1, NAN}), floats("x", {9, 1})).largest));
  const float other_nan = std::bit_cast<float>(0x7fc00001u);
  EXPECT_TRUE(std::isnan(only(floats("x", {NAN}), floats("x", {other_nan})).largest));
}

TEST_F(DiffTest, WorstFirst) {
  const std::string zeros =
      save({floats("few", {0, 0}), floats("infinite", {0}), floats("large", {0}),
            floats("many", {0, 0}), floats("nan", {0}), floats("same", {0})});
  const std::string others =
      save({floats("few", {1, 0}), floats("infinite", {INFINITY}), floats("large", {5}),
            floats("many", {1, 1}), floats("nan", {NAN}), floats("same", {0})});
  EXPECT_EQ(names_of(tensors(zeros, others)),
            (std::vector<std::string>{"nan", "infinite", "large", "many", "few"}));
}

TEST_F(DiffTest, PartsShareTheTensors) {
  std::vector<SampleTensor> model = sample_model();
  const std::string here = save(model, 2);
  for (SampleTensor& tensor : model) {
    if (!tensor.bytes.empty()) tensor.bytes[0] ^= 1;
  }
  const std::string there = save(model, 3);
  CheckpointReader first(here), second(there);
  std::vector<TensorDifference> all;
  for (int part = 0; part < 3; ++part) {
    for (TensorDifference& tensor : diff_tensors(first, second, part, 3)) all.push_back(tensor);
  }
  sort_worst_first(all);
  EXPECT_EQ(names_of(all), names_of(tensors(here, there)));
  EXPECT_EQ(all.size(), model.size() - 1) << "all but the empty one";
}

TEST_F(DiffTest, ATensorOfManyPiecesAndSlices) {
  std::vector<float> values(700'001, 1.5f);  // 2.7 MiB
  const std::string here = save({floats("x", values)}, 3);
  for (const size_t i : {size_t{0}, size_t{262'144}, size_t{700'000}}) values[i] = 2;
  const std::vector<TensorDifference> found = tensors(here, save({floats("x", values)}, 2));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].differing, 3);
  EXPECT_EQ(found[0].largest, 0.5);
}

TEST_F(DiffTest, TensorsOfOneSideAndOtherDeclarations) {
  const std::string here = save({floats("gone", {1}), floats("x", {1, 2}), floats("y", {1, 2})});
  const std::string there =
      save({floats("new", {1}), floats("x", {1, 2, 3}), tensor_of<int32_t>("y", "I32", {1, 2})});
  const ManifestDifference found = manifests(here, there);
  EXPECT_EQ(found.only_in_first, std::vector<std::string>{"gone"});
  EXPECT_EQ(found.only_in_second, std::vector<std::string>{"new"});
  ASSERT_EQ(found.declarations.size(), 2u);
  EXPECT_EQ(found.declarations[0].name, "x");
  EXPECT_EQ(found.declarations[0].second.dump(), R"({"shape":[3],"dtype":"F32","kind":"state"})");
  EXPECT_EQ(found.declarations[1].name, "y");
  EXPECT_TRUE(tensors(here, there).empty()) << "nothing that could be subtracted";
}

TEST_F(DiffTest, StepCursorAndState) {
  CheckpointInfo info = sample_info(1, 1);
  info.state = {{"tokens", 10}, {"gone", true}, {"counts", {1, 2}}, {"last_losses", {1.5}}};
  const std::string here = save({}, info);
  info.step = 2;
  info.cursor = 99;
  info.state = {{"tokens", 11}, {"new", nullptr}, {"counts", {1, 3}}, {"last_losses", {1.25}}};
  std::vector<std::string> texts;
  for (const FieldDifference& field : manifests(here, save({}, info)).fields) {
    texts.push_back(field.name + " " + field.first.dump() + " " + field.second.dump());
  }
  EXPECT_EQ(texts,
            (std::vector<std::string>{"cursor 8 99", "state/counts/1 2 3", "state/gone true null",
                                      "state/tokens 10 11", "step 1 2", "state/new null null"}));
}

TEST_F(DiffTest, ADamagedTensorIsNamedAndNotCompared) {
  const std::string here = save(sample_model(), 2), there = save(sample_model(), 2);
  const Manifest manifest = CheckpointReader(there).manifest();
  const Slice& slice = manifest.tensors[3].slices[1];
  flip_bit(there + "/" + manifest.shards[slice.shard].name, slice.offset, 0);
  try {
    tensors(here, there);
    FAIL() << "nothing thrown";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find(manifest.tensors[3].name), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("damaged"), std::string::npos);
  }
}

TEST_F(DiffTest, NothingInCommonIsNoDifferenceOfValues) {
  EXPECT_TRUE(tensors(save({}), save(sample_model())).empty());
}

}  // namespace
}  // namespace switchyard
