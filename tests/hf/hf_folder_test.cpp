#include "hf/hf_folder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/random.h"
#include "base/scratch_folder.h"
#include "hf/sample_configs.h"
#include "model/model_tensors.h"

namespace switchyard {
namespace {

using at::Tensor;
using nlohmann::json;

struct StoredTensor {
  TensorDeclaration declaration;
  std::string bytes;
};

/// The tensors of a model as its folder holds them, sorted by name.
std::vector<StoredTensor> sample_tensors(const json& config, const std::string& dtype = "F32") {
  const HfModel model = parse_hf_config(config, "config.json");
  std::vector<StoredTensor> tensors;
  for (const ModelTensor& tensor : model_tensors(model.model, model.moe)) {
    StoredTensor stored{{*hf_name(model.family, tensor.name), dtype, tensor.shape}, {}};
    stored.bytes.resize(*tensor_bytes(dtype, tensor.shape));
    const RandomStream stream(7, tensor.name);
    for (size_t i = 0; i < stored.bytes.size(); ++i) {
      stored.bytes[i] = static_cast<char>(100 * stream.uniform(i));
    }
    tensors.push_back(std::move(stored));
  }
  return tensors;
}

void write_tensors(const std::string& path, const std::vector<StoredTensor>& tensors) {
  std::vector<TensorDeclaration> declarations;
  for (const StoredTensor& tensor : tensors) declarations.push_back(tensor.declaration);
  SafetensorsWriter writer(path, declarations);
  for (const StoredTensor& tensor : tensors) {
    writer.append(tensor.bytes.data(), tensor.bytes.size());
  }
  writer.finish();
}

/// A folder of two shards with an index, whose parts a test may spoil before it is written.
struct ShardedFolder {
  json config;
  std::vector<StoredTensor> tensors, shards[2];
  json weight_map = json::object();

  explicit ShardedFolder(const json& of) : config(of), tensors(sample_tensors(of)) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      shards[i % 2].push_back(tensors[i]);
      weight_map[tensors[i].declaration.name] = file(i % 2);
    }
  }

  static std::string file(size_t shard) {
    return "model-0000" + std::to_string(shard + 1) + "-of-00002.safetensors";
  }

  void write(const std::string& path) const {
    write_file_atomically(path + "/config.json", config.dump());
    for (size_t i = 0; i < 2; ++i) write_tensors(path + "/" + file(i), shards[i]);
    const json index = {{"metadata", {{"total_size", 1}}}, {"weight_map", weight_map}};
    write_file_atomically(path + "/model.safetensors.index.json", index.dump());
  }

  StoredTensor& in_shard(size_t shard, const std::string& name) {
    for (StoredTensor& tensor : shards[shard]) {
      if (tensor.declaration.name == name) return tensor;
    }
    throw std::logic_error("no " + name);
  }
};

void write_single(const std::string& path, const json& config,
                  const std::vector<StoredTensor>& tensors) {
  write_file_atomically(path + "/config.json", config.dump());
  write_tensors(path + "/model.safetensors", tensors);
}

std::string bytes_of(const Tensor& tensor) {
  return {static_cast<const char*>(tensor.data_ptr()), tensor.nbytes()};
}

void expect_holds(HfFolder& folder, const std::vector<StoredTensor>& stored) {
  ASSERT_EQ(folder.tensors().size(), stored.size());
  for (const StoredTensor& tensor : stored) {
    const auto name = native_name(folder.model().family, tensor.declaration.name);
    const TensorInfo& info = folder.at(*name);
    EXPECT_EQ(info.dtype, tensor.declaration.dtype);
    EXPECT_EQ(info.shape, tensor.declaration.shape);
    EXPECT_EQ(bytes_of(folder.TensorSource::read(*name)), tensor.bytes) << *name;
  }
}

TEST(HfFolder, GivesEveryTensorUnderItsNativeName) {
  for (const Family family : kFamilies) {
    for (const char* dtype : {"F32", "BF16", "F16"}) {
      const ScratchFolder scratch;
      const json config = sample_config(family);
      const std::vector<StoredTensor> tensors = sample_tensors(config, dtype);
      write_single(scratch.path(), config, tensors);
      EXPECT_TRUE(is_hf_folder(scratch.path()));
      HfFolder folder(scratch.path());
      EXPECT_EQ(folder.model().family, family);
      expect_holds(folder, tensors);
    }
  }
}

TEST(HfFolder, TensorsAreSortedAndOfTheirKinds) {
  const ScratchFolder scratch;
  ShardedFolder(sample_config(Family::kGlm4Moe)).write(scratch.path());
  HfFolder folder(scratch.path());
  EXPECT_TRUE(std::ranges::is_sorted(folder.tensors(), {}, &TensorInfo::name));
  EXPECT_EQ(folder.at("model.layers.1.mlp.gate.e_score_correction_bias").kind, "state");
  EXPECT_EQ(folder.at("model.layers.1.mlp.experts.3.up_proj.weight").kind, "expert");
  EXPECT_EQ(folder.at("model.layers.1.mlp.shared_expert.up_proj.weight").kind, "dense");
  EXPECT_EQ(folder.at("model.layers.0.mlp.up_proj.weight").kind, "dense");
}

TEST(HfFolder, ReadsIntervalsFromShards) {
  const ScratchFolder scratch;
  const ShardedFolder sharded(sample_config(Family::kMixtral));
  sharded.write(scratch.path());
  HfFolder folder(scratch.path());
  expect_holds(folder, sharded.tensors);
  const std::string name = "model.layers.2.mlp.experts.3.up_proj.weight";
  const std::string whole = bytes_of(folder.TensorSource::read(name));
  float part[5];
  folder.read(folder.at(name), {7, 12}, part);
  EXPECT_EQ(std::memcmp(part, whole.data() + 7 * sizeof(float), sizeof(part)), 0);
}

TEST(HfFolder, DerivedAndTiedTensorsMayBeStored) {
  const ScratchFolder scratch;
  const json config = changed(sample_config(Family::kLlama), {{"tie_word_embeddings", true}});
  std::vector<StoredTensor> tensors = sample_tensors(config);
  const size_t count = tensors.size();
  tensors.push_back({{"model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {2}}, "12345678"});
  StoredTensor head = *std::ranges::find_if(tensors, [](const StoredTensor& tensor) {
    return tensor.declaration.name == "model.embed_tokens.weight";
  });
  head.declaration.name = "lm_head.weight";
  tensors.push_back(head);
  write_single(scratch.path(), config, tensors);
  EXPECT_EQ(HfFolder(scratch.path()).tensors().size(), count);

  tensors.back().bytes[0] ^= 1;
  write_single(scratch.path(), config, tensors);
  const std::string message = message_of<DataError>([&] { HfFolder folder(scratch.path()); });
  EXPECT_NE(message.find("\"lm_head.weight\" is not model.embed_tokens.weight"), std::string::npos)
      << message;
}

TEST(HfFolder, LayersThatPredictFurtherTokensAreLeftOut) {
  const ScratchFolder scratch;
  const json config = changed(sample_config(Family::kGlm4Moe), {{"num_nextn_predict_layers", 1}});
  std::vector<StoredTensor> tensors = sample_tensors(config);
  const size_t count = tensors.size();
  tensors.push_back({{"model.layers.3.eh_proj.weight", "F32", {1}}, "1234"});
  write_single(scratch.path(), config, tensors);
  EXPECT_EQ(HfFolder(scratch.path()).tensors().size(), count);
}

TEST(HfFolder, FilesTravelWithTheModel) {
  const ScratchFolder scratch;
  const json config = sample_config(Family::kLlama);
  write_single(scratch.path(), config, sample_tensors(config));
  write_file_atomically(scratch / "generation_config.json", "{}");
  write_file_atomically(scratch / "notes.txt", "not this");
  write_file_atomically(scratch / "tokenizer.json", R"({"model": {"type": "Unigram"}})");
  const auto files = HfFolder(scratch.path()).files();
  ASSERT_EQ(files.size(), 4);
  EXPECT_EQ(files[0].first, "hf_config.json");
  EXPECT_EQ(files[0].second, config.dump());
  EXPECT_EQ(files[1].first, "generation_config.json");
  EXPECT_EQ(files[2].first, "tokenizer.json");
  EXPECT_EQ(files[3].first, "meta.json");
  const json meta = parse_json(files[3].second, "meta.json");
  EXPECT_EQ(meta["tokenizer"], "hf:tokenizer.json");
  EXPECT_EQ(meta["vocab_size"], 23);
  EXPECT_EQ(meta["eos"], 2);
}

/// The message that opening the spoilt folder ends with.
std::string refusal(const std::function<void(ShardedFolder&)>& spoil,
                    const std::function<void(const std::string&)>& spoil_files = {}) {
  const ScratchFolder scratch;
  ShardedFolder folder(sample_config(Family::kMixtral));
  if (spoil) spoil(folder);
  folder.write(scratch.path());
  if (spoil_files) spoil_files(scratch.path());
  const std::vector<std::string> before = list_folder(scratch.path());
  const std::string message = message_of<DataError>([&] { HfFolder opened(scratch.path()); });
  EXPECT_EQ(list_folder(scratch.path()), before) << "nothing is written";
  EXPECT_EQ(message.find(scratch.path()), 0) << message;
  return message;
}

#define EXPECT_MENTIONS(message, text) \
  EXPECT_NE((message).find(text), std::string::npos) << (message)

const std::string kNorm = "model.norm.weight";
const std::string kGate = "model.layers.1.block_sparse_moe.gate.weight";

size_t shard_of(const ShardedFolder& folder, const std::string& name) {
  return folder.weight_map[name] == ShardedFolder::file(0) ? 0 : 1;
}

TEST(HostileFolder, PathsOutOfTheFolder) {
  for (const char* name : {"../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "",
                           "model.bin", "x\n.safetensors"}) {
    const std::string message =
        refusal([&](ShardedFolder& folder) { folder.weight_map[kNorm] = name; });
    EXPECT_MENTIONS(message, "model.safetensors.index.json: tensor \"model.norm.weight\"");
    EXPECT_MENTIONS(message, "is not the name of a .safetensors file in the folder");
  }
}

TEST(HostileFolder, AnIndexThatIsNone) {
  const auto index = [](const std::string& text) {
    return refusal({}, [&](const std::string& path) {
      write_file_atomically(path + "/model.safetensors.index.json", text);
    });
  };
  EXPECT_MENTIONS(index("{"), "not valid JSON");
  EXPECT_MENTIONS(index("[]"), "not a JSON object");
  EXPECT_MENTIONS(index("{}"), "\"weight_map\" is missing");
  EXPECT_MENTIONS(index(R"({"weight_map": {}})"), "names no tensors");
  EXPECT_MENTIONS(index(R"({"weight_map": {"a": 1}})"), "tensor \"a\": its file is not a name");
  EXPECT_MENTIONS(index(R"({"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}})"),
                  "\"a\" is given twice");
}

TEST(HostileFolder, ATensorInTwoFiles) {
  const std::string message = refusal([](ShardedFolder& folder) {
    const size_t shard = shard_of(folder, kNorm);
    folder.shards[1 - shard].push_back(folder.in_shard(shard, kNorm));
  });
  EXPECT_MENTIONS(message,
                  "tensor \"model.norm.weight\": by model.safetensors.index.json it is in");
}

TEST(HostileFolder, IndexAndFilesDisagree) {
  EXPECT_MENTIONS(refusal([](ShardedFolder& folder) { folder.weight_map.erase(kNorm); }),
                  "tensor \"model.norm.weight\": model.safetensors.index.json does not name it");
  EXPECT_MENTIONS(
      refusal([](ShardedFolder& folder) { folder.weight_map["ghost"] = ShardedFolder::file(0); }),
      "tensor \"ghost\" of model.safetensors.index.json is not in it");
  EXPECT_MENTIONS(refusal([](ShardedFolder& folder) {
                    const size_t shard = shard_of(folder, kNorm);
                    folder.weight_map[kNorm] = ShardedFolder::file(1 - shard);
                  }),
                  "tensor \"model.norm.weight\": by model.safetensors.index.json it is in");
}

TEST(HostileFolder, MissingAndTruncatedShards) {
  EXPECT_MENTIONS(
      refusal({},
              [](const std::string& path) { remove_tree(path + "/" + ShardedFolder::file(1)); }),
      ShardedFolder::file(1) + ": not there, though");
  EXPECT_MENTIONS(refusal({},
                          [](const std::string& path) {
                            const std::string file = path + "/" + ShardedFolder::file(1);
                            std::filesystem::resize_file(file,
                                                         std::filesystem::file_size(file) - 1);
                          }),
                  "the file is truncated");
}

TEST(HostileFolder, HeadersThatLie) {
  const auto with_file = [](const std::string& bytes) {
    return refusal({}, [&](const std::string& path) {
      write_file_atomically(path + "/" + ShardedFolder::file(0), bytes);
    });
  };
  const auto with_header = [&](const std::string& header, size_t data) {
    const uint64_t length = header.size();
    return with_file(std::string(reinterpret_cast<const char*>(&length), 8) + header +
                     std::string(data, '\0'));
  };
  const uint64_t huge = uint64_t{1} << 60;
  const std::string message =
      with_file(std::string(reinterpret_cast<const char*>(&huge), 8) + "{}");
  EXPECT_MENTIONS(message, ShardedFolder::file(0));
  EXPECT_MENTIONS(message, "a header of 1152921504606846976 bytes");
  EXPECT_MENTIONS(with_file(""), ShardedFolder::file(0));
  EXPECT_MENTIONS(
      with_header(R"({"a": {"dtype": "F33", "shape": [1], "data_offsets": [0, 4]}})", 4),
      "tensor \"a\": unknown dtype \"F33\"");
  EXPECT_MENTIONS(with_header(R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                                  "b": {"dtype": "F32", "shape": [1], "data_offsets": [2, 6]}})",
                              6),
                  "tensor \"b\": overlaps");
  EXPECT_MENTIONS(with_header(R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                                  "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})",
                              4),
                  "\"a\" is given twice");
}

TEST(HostileFolder, TensorsThatTheModelDoesNotHaveSo) {
  const auto change = [](const std::string& name, const std::function<void(StoredTensor&)>& by) {
    return refusal(
        [&](ShardedFolder& folder) { by(folder.in_shard(shard_of(folder, name), name)); });
  };
  EXPECT_MENTIONS(change(kGate,
                         [](StoredTensor& gate) {
                           gate.declaration.shape = {16, 4};
                         }),
                  "tensor \"" + kGate + "\": its shape is [16, 4], by config.json it is [4, 16]");
  EXPECT_MENTIONS(change(kNorm,
                         [](StoredTensor& norm) {
                           norm.declaration.dtype = "F8_E4M3";
                           norm.bytes.resize(16);
                         }),
                  "tensor \"model.norm.weight\": weights of type F8_E4M3 cannot be read");
  EXPECT_MENTIONS(refusal([](ShardedFolder& folder) {
                    folder.shards[0].push_back({{"score.weight", "F32", {1}}, "1234"});
                    folder.weight_map["score.weight"] = ShardedFolder::file(0);
                  }),
                  "tensor \"score.weight\": the model of config.json (mixtral) has no such tensor");
  EXPECT_MENTIONS(refusal([](ShardedFolder& folder) {
                    std::erase_if(folder.shards[shard_of(folder, kGate)], [](const auto& tensor) {
                      return tensor.declaration.name == kGate;
                    });
                    folder.weight_map.erase(kGate);
                  }),
                  "1 tensor is missing that config.json asks for: \"" + kGate + "\"");
  EXPECT_MENTIONS(refusal([](ShardedFolder& folder) { folder.config["num_hidden_layers"] = 4; }),
                  "19 tensors are missing");
  EXPECT_MENTIONS(refusal([](ShardedFolder& folder) { folder.config["num_hidden_layers"] = 2; }),
                  "has no such tensor");
}

TEST(HostileFolder, ConfigsThatAreNone) {
  const auto config = [](const std::string& text) {
    return refusal(
        {}, [&](const std::string& path) { write_file_atomically(path + "/config.json", text); });
  };
  EXPECT_MENTIONS(config("[]"), "config.json: not a JSON object");
  EXPECT_MENTIONS(config("{}"), "config.json: \"model_type\"");
  EXPECT_MENTIONS(config("{\"model_type\": 3}"), "config.json: \"model_type\" is 3");
  EXPECT_MENTIONS(config(std::string(100, '[')), "config.json: nested deeper");
}

TEST(HostileFolder, WithoutSafetensors) {
  const ScratchFolder scratch;
  write_file_atomically(scratch / "config.json", sample_config(Family::kLlama).dump());
  EXPECT_MENTIONS(message_of<DataError>([&] { HfFolder folder(scratch.path()); }),
                  "neither model.safetensors nor model.safetensors.index.json");
  write_file_atomically(scratch / "pytorch_model.bin", "\x80");
  const std::string message = message_of<DataError>([&] { HfFolder folder(scratch.path()); });
  EXPECT_MENTIONS(message, "pytorch_model.bin: a pickle file");
  EXPECT_MENTIONS(message, "save_pretrained");
}

TEST(HostileFolder, TwoModelsInOneFolder) {
  const std::string message =
      refusal({}, [](const std::string& path) { write_tensors(path + "/model.safetensors", {}); });
  EXPECT_MENTIONS(message, "both model.safetensors and model.safetensors.index.json are there");
}

}  // namespace
}  // namespace switchyard
