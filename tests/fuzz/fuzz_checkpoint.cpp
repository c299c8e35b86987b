// The manifest, and the folder around it: a set of files, of which any may be damaged,
// missing, swapped or of another checkpoint.
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/checksum.h"
#include "base/error.h"
#include "base/safetensors.h"
#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/shard.h"
#include "checkpoint/verify_checkpoint.h"
#include "fuzz/fuzz.h"

namespace switchyard {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kTail = ",\n\"manifest_xxh3\":\"";

uint64_t digest(std::string_view bytes) { return xxh3(bytes.data(), bytes.size()); }

/// The text with the digest that it should have, whatever it had.
std::string signed_again(const std::string& text) {
  const size_t at = text.rfind(kTail);
  const std::string body = text.substr(0, at == std::string::npos ? text.size() : at);
  return body + std::string(kTail) + digest_text(digest(body)) + "\"\n}\n";
}

std::optional<ordered_json> json_of(const std::string& text) {
  ordered_json json = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) return std::nullopt;
  return json;
}

/// Bytes [begin, begin + size) of a file, nothing when they are not there.
std::optional<std::string_view> piece(const Files& files, const std::string& name, uint64_t begin,
                                      uint64_t size) {
  const auto found = files.find(name);
  if (found == files.end() || begin > found->second.size()) return std::nullopt;
  if (size > found->second.size() - begin) return std::nullopt;
  return std::string_view(found->second).substr(begin, size);
}

/// Throws unless the digest in `json` under `key` is that of those bytes.
void expect_digest(const Files& files, const std::string& name, uint64_t begin, uint64_t size,
                   const ordered_json& json, const char* key) {
  const auto bytes = piece(files, name, begin, size);
  if (!bytes) throw Finding(name + ": bytes that are not there");
  if (digest_text(digest(*bytes)) != json.at(key)) throw Finding(name + ": another digest");
}

/// The promises of manifest.h, looked at without the code that keeps them: every byte of
/// every file is under a digest that is right.
void expect_whole(const Files& files) {
  const std::string& text = files.at(kManifestName);
  if (signed_again(text) != text) throw Finding("the manifest's digest is not its own");
  const ordered_json manifest = ordered_json::parse(text);
  std::map<std::string, std::set<std::pair<uint64_t, uint64_t>>> covered;  // offset, bytes
  for (const auto& [name, file] : manifest["files"].items()) {
    if (files.at(name).size() != file["bytes"]) throw Finding(name + ": another size");
    expect_digest(files, name, 0, file["bytes"], file, "xxh3");
  }
  for (const auto& [name, shard] : manifest["shards"].items()) {
    if (files.at(name).size() != shard["bytes"]) throw Finding(name + ": another size");
    expect_digest(files, name, 0, shard["header_bytes"], shard, "header_xxh3");
    covered[name].emplace(0, shard["header_bytes"].get<uint64_t>());
  }
  for (const ordered_json& tensor : manifest["tensors"]) {
    for (const ordered_json& slice : tensor["slices"]) {
      expect_digest(files, slice["file"], slice["offset"], slice["bytes"], slice, "xxh3");
      covered[slice["file"]].emplace(slice["offset"].get<uint64_t>(),
                                     slice["bytes"].get<uint64_t>());
    }
  }
  for (const auto& [name, intervals] : covered) {
    uint64_t at = 0;
    for (const auto& [offset, bytes] : intervals) {
      if (offset != at) throw Finding(name + ": bytes under no digest");
      at += bytes;
    }
    if (at != files.at(name).size()) throw Finding(name + ": bytes under no digest at its end");
  }
}

/// Reads every tensor and holds it against the bytes of its slices.
void expect_tensors(CheckpointReader& reader, const Files& files) {
  for (const TensorRecord& tensor : reader.manifest().tensors) {
    const int64_t elements = *element_count(tensor.shape);
    std::string expected;
    for (const Slice& slice : tensor.slices) {
      const auto bytes =
          piece(files, reader.manifest().shards[slice.shard].name, slice.offset, slice.bytes);
      expected += bytes.value_or("");
    }
    std::string read(*tensor_bytes(tensor.dtype, tensor.shape), '\0');
    reader.read(tensor.name, tensor.dtype, 0, elements, read.data());
    if (read != expected) throw Finding(tensor.name + ": other elements");
  }
}

class CheckpointTarget final : public FuzzTarget {
 public:
  std::string name() const override { return "fuzz_checkpoint"; }

  std::vector<Seed> seeds() override {
    std::vector<Seed> seeds;
    for (const int world : {1, 2, 3}) {
      seeds.push_back({std::to_string(world) + " ranks", written(world), Verdict::kAccepted});
    }
    add_hostile(seeds);
    return seeds;
  }

  std::vector<std::string> words() const override {
    return {"\"step\":",
            "\"cursor\":",
            "\"layout\":",
            "\"files\":",
            "\"shards\":",
            "\"tensors\":",
            "\"begin\":",
            "\"end\":",
            "\"offset\":",
            "\"bytes\":",
            "\"xxh3\":\"0000000000000000\"",
            "\"F32\"",
            "\"BF16\"",
            "\"F4\"",
            "\"dense\"",
            "\"state\"",
            "rank-00000.safetensors",
            "rank-00001.safetensors",
            "../",
            "/etc/passwd",
            "manifest.json",
            "config.yaml",
            "[]",
            "{}",
            ",",
            "null",
            "-1",
            "1.5",
            "\\u0000",
            "\xff",
            "\n"};
  }

  void repair(Files& files, Mutator& mutator, Dice& dice) override {
    const auto manifest = files.find(kManifestName);
    if (manifest == files.end()) return;
    if (dice.once_in(20)) files["rank-0000" + std::to_string(dice.below(9)) + ".safetensors"] = "x";
    if (dice.once_in(6)) edit_field(manifest->second, mutator, dice);
    if (dice.once_in(4)) digest_again(manifest->second, files);
    if (!dice.once_in(10)) manifest->second = signed_again(manifest->second);
  }

  void run(const Files& files) override {
    folder_.become(files);
    const std::vector<std::string> problems = verify_checkpoint(folder_.path());
    if (problems.empty()) expect_whole(files);
    CheckpointReader reader(folder_.path());
    expect_tensors(reader, files);
    if (!problems.empty()) throw Finding("read to its end, and verified it says: " + problems[0]);
  }

 private:
  Files written(int world) {
    folder_.become({});
    std::vector<ShardTable> tables;
    const std::string save_id(32, static_cast<char>('0' + world));
    for (int rank = 0; rank < world; ++rank) {
      const auto cut = [&](int64_t elements) {
        return std::pair(elements * rank / world, elements * (rank + 1) / world);
      };
      std::vector<OwnedSlice> slices;
      const auto add = [&](const char* tensor, std::vector<int64_t> shape, const char* dtype,
                           const char* kind) {
        const auto [begin, end] = cut(*element_count(shape));
        slices.push_back({tensor, shape, dtype, kind, begin, end, kValues + 8 * begin});
      };
      add("model.norm.weight", {7}, "BF16", "dense");
      add("model.norm.weight.master", {7}, "F32", "dense");
      add("model.layers.0.mlp.experts.1.up_proj.weight", {3, 5}, "F32", "expert");
      add("loss_scale", {}, "F64", "state");
      add("nothing", {0, 4}, "F32", "state");
      tables.push_back(write_shard(folder_.path(), rank, save_id, /*step=*/3, slices));
    }
    return with_manifest(std::move(tables), save_id, world);
  }

  Files with_manifest(std::vector<ShardTable> tables, const std::string& save_id, int world) {
    Files files = {{kConfigName, "run: {name: fuzz}\n"}, {"tokenizer.json", "{}"}};
    Manifest manifest;
    manifest.save_id = save_id;
    manifest.step = 3;
    manifest.cursor = 24;
    manifest.config_xxh3 = digest(files[kConfigName]);
    manifest.world = world;
    manifest.state = {{"tokens", 77}, {"counts", {0.5, 1}}};
    for (const auto& [file, text] : files)
      manifest.files.push_back({file, text.size(), digest(text)});
    merge_tables(std::move(tables), manifest);
    for (const ShardRecord& shard : manifest.shards) {
      files[shard.name] = slurp(folder_.path() + "/" + shard.name);
    }
    files[kManifestName] = manifest_text(manifest);
    folder_.become(files);
    return files;
  }

  static void add_hostile(std::vector<Seed>& seeds) {
    const Files one = seeds[0].files, two = seeds[1].files;
    const auto refuse = [&](const std::string& name, Files files, auto&& damage) {
      damage(files);
      files[kManifestName] = signed_again(files[kManifestName]);
      seeds.push_back({name, files, Verdict::kRefused});
    };
    const auto replace = [](Files& files, const std::string& from, const std::string& to) {
      std::string& text = files[kManifestName];
      const size_t at = text.find(from);
      if (at == std::string::npos) throw Finding("no " + from + " in the manifest");
      text.replace(at, from.size(), to);
    };
    refuse("empty", {}, [](Files&) {});
    refuse("swapped shards", two, [](Files& files) {
      std::swap(files["rank-00000.safetensors"], files["rank-00001.safetensors"]);
    });
    refuse("missing shard", two, [](Files& files) { files.erase("rank-00001.safetensors"); });
    refuse("extra shard", one, [&](Files& files) { files["rank-00001.safetensors"] = "x"; });
    refuse("another save's shard", two, [&](Files& files) {
      files["rank-00000.safetensors"] = one.at("rank-00000.safetensors");
    });
    refuse("climbing", one,
           [&](Files& files) { replace(files, "tokenizer.json", "../etc/passwd"); });
    refuse("itself", one, [&](Files& files) { replace(files, "tokenizer.json", "manifest.json"); });
    refuse("version", one, [&](Files& files) { replace(files, "\"version\":1", "\"version\":2"); });
    refuse("huge", one, [&](Files& files) {
      replace(files, "\"shape\":[7]", "\"shape\":[4611686018427387905,2]");
    });
    refuse("key twice", one,
           [&](Files& files) { replace(files, "\"step\":3", "\"step\":3,\"step\":4"); });
    refuse("deep", one, [&](Files& files) {
      replace(files, "\"tokens\":77", "\"tokens\":" + std::string(50'000, '['));
    });
  }

  /// Gives one number or word somewhere in the JSON another value.
  static void edit_field(std::string& text, Mutator& mutator, Dice& dice) {
    std::optional<ordered_json> json = json_of(text);
    if (!json) return;
    ordered_json flat = json->flatten();
    if (flat.empty()) return;
    const auto field =
        std::next(flat.begin(), static_cast<std::ptrdiff_t>(dice.below(flat.size())));
    *field = dice.once_in(2)
                 ? ordered_json(mutator.number())
                 : *std::next(flat.begin(), static_cast<std::ptrdiff_t>(dice.below(flat.size())));
    ordered_json edited = flat.unflatten();
    if (edited.is_object()) set_body(text, std::move(edited));
  }

  /// Gives sizes and digests the values of the files as they are now.
  static void digest_again(std::string& text, const Files& files) {
    std::optional<ordered_json> json = json_of(text);
    if (!json) return;
    try {
      for (const auto& [name, file] : (*json)["files"].items()) {
        if (!files.contains(name)) continue;
        file["bytes"] = files.at(name).size();
        file["xxh3"] = digest_text(digest(files.at(name)));
        if (name == kConfigName) (*json)["config_xxh3"] = file["xxh3"];
      }
      for (const auto& [name, shard] : (*json)["shards"].items()) {
        if (files.contains(name)) shard["bytes"] = files.at(name).size();
        const auto header = piece(files, name, 0, shard["header_bytes"]);
        if (header) shard["header_xxh3"] = digest_text(digest(*header));
      }
      for (ordered_json& tensor : (*json)["tensors"]) {
        for (ordered_json& slice : tensor["slices"]) {
          const auto bytes = piece(files, slice["file"], slice["offset"], slice["bytes"]);
          if (bytes) slice["xxh3"] = digest_text(digest(*bytes));
        }
      }
    } catch (const nlohmann::json::exception&) {
      return;  // a field of another type: nothing to mend
    }
    set_body(text, *json);
  }

  static void set_body(std::string& text, ordered_json json) {
    json.erase("manifest_xxh3");
    text = json.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
    text.pop_back();  // the brace that the tail brings
    text = signed_again(text);
  }

  static constexpr char kValues[256] =
      "The values do not matter, only that no two slices are alike.";
  FolderOnDisk folder_;
};

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  switchyard::CheckpointTarget target;
  return switchyard::fuzz_main(argc, argv, target);
}
