#include "checkpoint/manifest.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/checksum.h"
#include "base/error.h"
#include "base/scratch_folder.h"

namespace switchyard {
namespace {

/// Two tensors on two ranks:  a (4,) F32 in two slices,  b (3,) BF16 on rank 1.
Manifest sample_manifest() {
  Manifest manifest;
  manifest.save_id = "0123456789abcdef0123456789abcdef";
  manifest.step = 1200;
  manifest.cursor = 9600;
  manifest.config_xxh3 = 42;
  manifest.world = 2;
  manifest.expert_parallel = 2;
  manifest.zero_stage = 1;
  manifest.state = {{"x", 0.1}, {"list", {1, 2}}};
  manifest.files = {{"config.yaml", 100, 42}};
  manifest.shards = {{"rank-00000.safetensors", 136, 128, 1},
                     {"rank-00001.safetensors", 142, 128, 2}};
  manifest.tensors = {{"a", {2, 2}, "F32", "dense", {{0, 2, 0, 128, 8, 3}, {2, 4, 1, 128, 8, 4}}},
                      {"b", {3}, "BF16", "expert", {{0, 3, 1, 136, 6, 5}}}};
  return manifest;
}

std::string refusal(const std::string& text) {
  const std::string message = message_of<DataError>([&] { parse_manifest(text, "manifest.json"); });
  EXPECT_TRUE(message.starts_with("manifest.json: ")) << message;
  return message;
}

std::string refusal_of(const std::function<void(Manifest&)>& damage) {
  Manifest manifest = sample_manifest();
  damage(manifest);
  return refusal(manifest_text(manifest));
}

/// The text with `from` replaced, and a digest that fits again.
std::string forged(const std::string& from, const std::string& to) {
  const std::string text = manifest_text(sample_manifest());
  std::string body = text.substr(0, text.find(",\n\"manifest_xxh3\""));
  const size_t at = body.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  body.replace(at, from.size(), to);
  return body + ",\n\"manifest_xxh3\":\"" + digest_text(xxh3(body.data(), body.size())) + "\"\n}\n";
}

void expect_complaint(const std::string& message, const std::string& complaint) {
  EXPECT_NE(message.find(complaint), std::string::npos) << message;
}

TEST(ManifestTest, TextReadsBack) {
  const Manifest manifest = parse_manifest(manifest_text(sample_manifest()), "manifest.json");
  EXPECT_EQ(manifest.step, 1200);
  EXPECT_EQ(manifest.cursor, 9600u);
  EXPECT_EQ(manifest.world, 2);
  EXPECT_EQ(manifest.expert_parallel, 2);
  EXPECT_EQ(manifest.zero_stage, 1);
  EXPECT_EQ(manifest.state, sample_manifest().state);
  EXPECT_EQ(manifest.tensors[0].slices[1].shard, 1u);
  EXPECT_EQ(manifest.tensors[0].slices[1].xxh3, 4u);
  EXPECT_EQ(manifest_text(manifest), manifest_text(sample_manifest()));
}

TEST(ManifestTest, IsPlainJson) {
  const auto json = nlohmann::json::parse(manifest_text(sample_manifest()));
  EXPECT_EQ(json["tensors"][1]["slices"][0]["file"], "rank-00001.safetensors");
}

TEST(ManifestTest, EveryFlippedBitIsRefused) {
  const std::string text = manifest_text(sample_manifest());
  for (size_t byte = 0; byte < text.size(); ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = text;
      damaged[byte] = static_cast<char>(damaged[byte] ^ (1 << bit));
      EXPECT_THROW(parse_manifest(damaged, "m"), DataError) << "byte " << byte << " bit " << bit;
    }
  }
}

TEST(ManifestTest, EveryTruncationIsRefused) {
  const std::string text = manifest_text(sample_manifest());
  for (size_t size = 0; size < text.size(); ++size) refusal(text.substr(0, size));
  refusal(text + "\n");
}

TEST(ManifestTest, FormatAndVersionAreShown) {
  expect_complaint(refusal(forged("\"version\":1", "\"version\":2")),
                   "format version 2, this program reads version 1");
  expect_complaint(refusal(forged("switchyard-checkpoint", "another")), "not a checkpoint of");
}

TEST(ManifestTest, FieldsAreStrict) {
  expect_complaint(refusal(forged("\"step\":1200", "\"step\":-1")), "\"step\" is not an unsigned");
  expect_complaint(refusal(forged("\"step\":1200", "\"step\":1.0")), "\"step\" is not an unsigned");
  expect_complaint(refusal(forged(",\n\"cursor\":9600", "")), "\"cursor\" is missing");
  expect_complaint(refusal(forged("\"step\":1200", "\"step\":1,\"step\":1200")), "given twice");
  expect_complaint(refusal(forged("\"zero\":1", "\"zero\":1,\"x\":1")), "\"x\" is not known");
  expect_complaint(refusal(forged("\"world\":2", "\"world\":4294967298")), "too large");
  expect_complaint(refusal(forged("0000000000000003", "000000000000000G")), "no digest");
  expect_complaint(refusal(forged("\"begin\":0", "\"begin\":\"0\"")),
                   "\"begin\" is not an unsigned");
  expect_complaint(refusal(forged("\"kind\":\"dense\",", "")), "\"kind\" is missing");
  expect_complaint(refusal(forged("\"file\":\"rank-00000", "\"file\":\"rank-00007")),
                   "not among the shards");
}

TEST(ManifestTest, NamesCannotLeaveTheFolder) {
  for (const char* name : {"../config.yaml", "/etc/passwd", "a/b", "..", ""}) {
    expect_complaint(refusal_of([&](Manifest& m) {
                       m.files.push_back({name, 1, 1});
                     }),
                     "no plain file name");
  }
  expect_complaint(refusal_of([](Manifest& m) { m.shards[1].name = "x/../../rank"; }),
                   "no plain file name");
  expect_complaint(refusal_of([](Manifest& m) {
                     m.files.push_back({kManifestName, 1, 1});
                   }),
                   "two files are named manifest.json");
}

TEST(ManifestTest, TheConfigIsPartOfIt) {
  expect_complaint(refusal_of([](Manifest& m) { m.files.clear(); }), "config.yaml is missing");
  expect_complaint(refusal_of([](Manifest& m) { m.config_xxh3 = 1; }), "config.yaml is missing or");
}

TEST(ManifestTest, AWorldHasAsManyShards) {
  expect_complaint(refusal_of([](Manifest& m) { m.world = 3; }), "2 shards of a world of 3");
}

TEST(ManifestTest, TilingFindsGapsAndOverlaps) {
  const auto slices = [](Manifest& m) -> std::vector<Slice>& { return m.tensors[0].slices; };
  expect_complaint(refusal_of([&](Manifest& m) { slices(m)[1].begin = 3; }),
                   "tensor \"a\": elements [2, 3) are in no slice");
  expect_complaint(refusal_of([&](Manifest& m) { slices(m)[1].begin = 1; }),
                   "tensor \"a\": elements [1, 2) are in two slices, of shards 0 and 1");
  expect_complaint(refusal_of([&](Manifest& m) { slices(m).pop_back(); }),
                   "tensor \"a\": elements [2, 4) are in no slice");
  expect_complaint(refusal_of([&](Manifest& m) { slices(m).clear(); }),
                   "tensor \"a\": elements [0, 4) are in no slice");
  expect_complaint(refusal_of([&](Manifest& m) { slices(m)[1].end = 5; }),
                   "elements [2, 5) are not within [0, 4)");
  expect_complaint(refusal_of([&](Manifest& m) { std::swap(slices(m)[0], slices(m)[1]); }),
                   "are in no slice");
}

TEST(ManifestTest, TensorsAreWhatTheySay) {
  expect_complaint(refusal_of([](Manifest& m) { m.tensors[1].name = "a"; }),
                   "two tensors are named \"a\"");
  expect_complaint(refusal_of([](Manifest& m) { m.tensors[1].name = "../b"; }),
                   "not a tensor's name");
  expect_complaint(refusal_of([](Manifest& m) { m.tensors[1].kind = "sparse"; }),
                   "unknown kind \"sparse\"");
  expect_complaint(refusal_of([](Manifest& m) { m.tensors[1].dtype = "F4"; }), "unknown dtype");
  expect_complaint(refusal_of([](Manifest& m) { m.tensors[1].dtype = "F32"; }),
                   "6 bytes for elements [0, 3) of F32");
  expect_complaint(refusal_of([](Manifest& m) {
                     m.tensors[1].shape = {INT64_MAX, 3};
                   }),
                   "no size in bytes");
}

TEST(ManifestTest, SlicesLeaveNoByteOfAShardOut) {
  expect_complaint(refusal_of([](Manifest& m) { m.shards[1].bytes = 143; }),
                   "rank-00001.safetensors: the slices end at byte 142 of 143");
  expect_complaint(refusal_of([](Manifest& m) { m.tensors[1].slices[0].offset = 135; }),
                   "no slice begins at byte 136, but at 135");
  expect_complaint(refusal_of([](Manifest& m) { m.tensors[1].slices[0].shard = 0; }),
                   "rank-00000.safetensors: the slices end at byte 142 of 136");
}

TEST(ManifestTest, ShardsAreNamedByRank) {
  EXPECT_EQ(shard_name(3), "rank-00003.safetensors");
  EXPECT_EQ(shard_name(123456), "rank-123456.safetensors");
}

}  // namespace
}  // namespace switchyard
