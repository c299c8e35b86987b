#include "hf/tensor_files.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "base/safetensors.h"
#include "base/scratch_folder.h"
#include "hf/memory_source.h"

namespace switchyard {
namespace {

using at::Tensor;

std::vector<OutgoingTensor> as_they_are(const MemorySource& source) {
  std::vector<OutgoingTensor> tensors;
  for (const TensorInfo& tensor : source.tensors()) {
    tensors.push_back({"out." + tensor.name, tensor.name, tensor.dtype, tensor.shape});
  }
  return tensors;
}

Tensor read_back(const SafetensorsReader& file, const std::string& name) {
  const TensorEntry& entry = file.at(name);
  Tensor values = at::empty(entry.shape, scalar_type(entry.dtype));
  std::memcpy(values.data_ptr(), file.data(entry), entry.bytes);
  return values;
}

TEST(TensorFilesTest, WhatFitsIsOneFileWithoutIndex) {
  const ScratchFolder folder;
  MemorySource source({{"a", at::randn({3, 4})}, {"b", at::randn({5}).to(at::kBFloat16)}});
  const TensorFiles written = write_tensor_files(source, as_they_are(source), 58, folder.path());
  EXPECT_EQ(list_folder(folder.path()), std::vector<std::string>{"model.safetensors"});
  EXPECT_EQ(written.names, std::vector<std::string>{"model.safetensors"});
  EXPECT_EQ(written.bytes, 58u);
  EXPECT_EQ(written.elements, 17u);
  const SafetensorsReader file(folder / "model.safetensors");
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  EXPECT_TRUE(at::equal(read_back(file, "out.a"), source.read("a")));
  EXPECT_TRUE(at::equal(read_back(file, "out.b"), source.read("b")));
}

TEST(TensorFilesTest, ShardsAreFilledInOrderAndIndexed) {
  const ScratchFolder folder;
  MemorySource source(
      {{"a", at::ones({4})}, {"b", at::ones({4})}, {"c", at::ones({100})}, {"d", at::ones({1})}});
  const TensorFiles written = write_tensor_files(source, as_they_are(source), 32, folder.path());
  const std::string first = "model-00001-of-00003.safetensors",
                    second = "model-00002-of-00003.safetensors",
                    third = "model-00003-of-00003.safetensors";
  EXPECT_EQ(written.names, (std::vector<std::string>{first, second, third}));
  const nlohmann::json index = read_json_file(folder / "model.safetensors.index.json");
  const nlohmann::json expected = {
      {"metadata", {{"total_size", 436}, {"total_parameters", 109}}},
      {"weight_map", {{"out.a", first}, {"out.b", first}, {"out.c", second}, {"out.d", third}}}};
  EXPECT_EQ(index, expected);
  EXPECT_EQ(SafetensorsReader(folder / first).tensors().size(), 2u);
  EXPECT_EQ(SafetensorsReader(folder / second).tensors().size(), 1u) << "larger than a shard";
}

TEST(TensorFilesTest, LargeTensorsPassInPiecesAndAreRounded) {
  const ScratchFolder folder;
  constexpr int64_t kElements = (int64_t{9} << 20) + 7;
  MemorySource source({{"a", at::randn({kElements})}});
  write_tensor_files(source, {{"a", "a", "BF16", {kElements}}}, uint64_t{1} << 40, folder.path());
  const SafetensorsReader file(folder / "model.safetensors");
  EXPECT_TRUE(at::equal(read_back(file, "a"), source.read("a").to(at::kBFloat16)));
  MemorySource again({{"a", at::ones({kElements})}});
  const ScratchFolder other;
  write_tensor_files(again, {{"a", "a", "F32", {kElements}}}, uint64_t{1} << 40, other.path());
  EXPECT_EQ(again.largest_piece(), int64_t{4} << 20);
}

TEST(TensorFilesTest, WideElementsLieFirstAndAligned) {
  const ScratchFolder folder;
  MemorySource source({{"a", at::ones({3}).to(at::kBFloat16)}, {"b", at::ones({3})}});
  write_tensor_files(source, as_they_are(source), 1000, folder.path());
  const SafetensorsReader file(folder / "model.safetensors");
  EXPECT_EQ(file.tensors()[0].name, "out.b");
  EXPECT_EQ(file.tensors()[0].offset % 8, 0u);
}

}  // namespace
}  // namespace switchyard
