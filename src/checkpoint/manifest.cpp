#include "checkpoint/manifest.h"

#include <algorithm>
#include <climits>
#include <cstdio>
#include <unordered_set>

#include "base/checksum.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/safetensors.h"

namespace switchyard {
namespace {

constexpr const char* kFormat = "switchyard-checkpoint";
constexpr std::string_view kTailBegin = ",\n\"manifest_xxh3\":\"";
constexpr std::string_view kTailEnd = "\"\n}\n";
constexpr size_t kDigestDigits = 16;
constexpr size_t kTailBytes = kTailBegin.size() + kDigestDigits + kTailEnd.size();
constexpr JsonLimits kLimits = {size_t{1} << 30, 64};

uint64_t digest_field(JsonFields& fields, const std::string& key, const std::string& origin) {
  const std::optional<uint64_t> digest = parse_digest(fields.text(key));
  if (!digest) throw DataError(origin + ": \"" + key + "\" is no digest of 16 hex digits");
  return *digest;
}

int small_field(JsonFields& fields, const std::string& key, const std::string& origin) {
  const uint64_t value = fields.number(key);
  if (value > INT_MAX) throw DataError(origin + ": \"" + key + "\" is too large");
  return static_cast<int>(value);
}

/// The text without its tail, once the tail's digest is that of the rest.
std::string_view check_own_digest(std::string_view text, const std::string& origin) {
  const auto refuse = [&](const std::string& why) -> std::string_view {
    throw DataError(origin + ": " + why);
  };
  if (text.size() < kTailBytes || !text.ends_with(kTailEnd)) {
    return refuse("torn, or no manifest: it does not end with its digest");
  }
  const std::string_view body = text.substr(0, text.size() - kTailBytes);
  const std::string_view tail = text.substr(body.size());
  const std::optional<uint64_t> digest =
      parse_digest(tail.substr(kTailBegin.size(), kDigestDigits));
  if (!tail.starts_with(kTailBegin) || !digest) {
    return refuse("torn, or no manifest: it does not end with its digest");
  }
  const uint64_t actual = xxh3(body.data(), body.size());
  if (actual != *digest) {
    return refuse("damaged: its digest is " + digest_text(actual) + ", it says " +
                  digest_text(*digest));
  }
  return body;
}

nlohmann::ordered_json files_json(const std::vector<FileRecord>& files) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const FileRecord& file : files) {
    json[file.name] = {{"bytes", file.bytes}, {"xxh3", digest_text(file.xxh3)}};
  }
  return json;
}

std::vector<FileRecord> parse_files(const nlohmann::json& json, const std::string& origin) {
  std::vector<FileRecord> files;
  for (const auto& [name, entry] : json.items()) {
    const std::string where = origin + ": file " + name;
    JsonFields fields(entry, where);
    files.push_back({name, fields.number("bytes"), digest_field(fields, "xxh3", where)});
    fields.finish();
  }
  return files;
}

void parse_layout(const nlohmann::json& json, Manifest& manifest, const std::string& origin) {
  const std::string where = origin + ": layout";
  JsonFields fields(json, where);
  manifest.world = small_field(fields, "world", where);
  manifest.expert_parallel = small_field(fields, "expert", where);
  manifest.zero_stage = small_field(fields, "zero", where);
  fields.finish();
}

void check_version(JsonFields& fields, const std::string& origin) {
  if (fields.text("format") != kFormat)
    throw DataError(origin + ": not a checkpoint of Switchyard");
  const uint64_t version = fields.number("version");
  if (version != kManifestVersion) {
    throw DataError(origin + ": format version " + std::to_string(version) +
                    ", this program reads version " + std::to_string(kManifestVersion));
  }
}

size_t shard_index(const std::string& name, const std::vector<ShardRecord>& shards,
                   const std::string& where) {
  const auto found = std::lower_bound(
      shards.begin(), shards.end(), name,
      [](const ShardRecord& shard, const std::string& n) { return shard.name < n; });
  if (found == shards.end() || found->name != name) {
    throw DataError(where + ": is in \"" + name + "\", which is not among the shards");
  }
  return static_cast<size_t>(found - shards.begin());
}

Slice parse_slice(const nlohmann::json& json, const std::vector<ShardRecord>& shards,
                  const std::string& where) {
  JsonFields fields(json, where);
  Slice slice;
  slice.begin = fields.count("begin");
  slice.end = fields.count("end");
  slice.shard = shard_index(fields.text("file"), shards, where);
  slice.offset = fields.number("offset");
  slice.bytes = fields.number("bytes");
  slice.xxh3 = digest_field(fields, "xxh3", where);
  fields.finish();
  return slice;
}

void check_names(const Manifest& manifest, const std::string& origin) {
  std::unordered_set<std::string> names = {kManifestName};
  const auto check = [&](const std::string& name) {
    if (!is_plain_name(name)) throw DataError(origin + ": \"" + name + "\" is no plain file name");
    if (!names.insert(name).second) throw DataError(origin + ": two files are named " + name);
  };
  for (const FileRecord& file : manifest.files) check(file.name);
  for (const ShardRecord& shard : manifest.shards) check(shard.name);
}

bool is_save_id(const std::string& text) {
  return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

void check_head(const Manifest& manifest, const std::string& origin) {
  if (!is_save_id(manifest.save_id)) throw DataError(origin + ": save_id is not 32 hex digits");
  if (manifest.world < 1 || manifest.expert_parallel < 1) {
    throw DataError(origin + ": the layout has no ranks");
  }
  if (!manifest.state.is_object()) throw DataError(origin + ": \"state\" is not an object");
  if (static_cast<int>(manifest.shards.size()) != manifest.world) {
    throw DataError(origin + ": " + std::to_string(manifest.shards.size()) +
                    " shards of a world of " + std::to_string(manifest.world));
  }
  for (const FileRecord& file : manifest.files) {
    if (file.name == kConfigName && file.xxh3 == manifest.config_xxh3) return;
  }
  throw DataError(origin + ": config.yaml is missing or is not the one of config_xxh3");
}

void check_tensor(const TensorRecord& tensor, const std::string& origin) {
  const std::string where = origin + ": tensor \"" + tensor.name + "\"";
  const std::optional<int> bits = dtype_bits(tensor.dtype);
  const std::optional<uint64_t> bytes = tensor_bytes(tensor.dtype, tensor.shape);
  if (!is_tensor_name(tensor.name)) throw DataError(where + ": not a tensor's name");
  if (!bits || *bits % 8 != 0) throw DataError(where + ": unknown dtype \"" + tensor.dtype + "\"");
  if (!bytes) throw DataError(where + ": its shape has no size in bytes");
  if (tensor.kind != "dense" && tensor.kind != "expert" && tensor.kind != "state") {
    throw DataError(where + ": unknown kind \"" + tensor.kind + "\"");
  }
  check_tiling(tensor, *element_count(tensor.shape), origin);
  for (const Slice& slice : tensor.slices) {
    if (slice.bytes != static_cast<uint64_t>(slice.end - slice.begin) * (*bits / 8)) {
      throw DataError(where + ": " + std::to_string(slice.bytes) + " bytes for elements [" +
                      std::to_string(slice.begin) + ", " + std::to_string(slice.end) + ") of " +
                      tensor.dtype);
    }
  }
}

/// The slices of a shard, sorted, must touch: from its header to its end.
void check_shard(const ShardRecord& shard, std::vector<const Slice*> slices,
                 const std::string& origin) {
  const std::string where = origin + ": " + shard.name;
  std::sort(slices.begin(), slices.end(),
            [](const Slice* a, const Slice* b) { return a->offset < b->offset; });
  uint64_t expected = shard.header_bytes;
  for (const Slice* slice : slices) {
    if (slice->offset != expected) {
      throw DataError(where + ": no slice begins at byte " + std::to_string(expected) +
                      ", but at " + std::to_string(slice->offset));
    }
    if (__builtin_add_overflow(expected, slice->bytes, &expected)) {
      throw DataError(where + ": a slice is too large");
    }
  }
  if (expected != shard.bytes) {
    throw DataError(where + ": the slices end at byte " + std::to_string(expected) + " of " +
                    std::to_string(shard.bytes));
  }
}

void check_shards(const Manifest& manifest, const std::string& origin) {
  std::vector<std::vector<const Slice*>> slices(manifest.shards.size());
  for (const TensorRecord& tensor : manifest.tensors) {
    for (const Slice& slice : tensor.slices) slices.at(slice.shard).push_back(&slice);
  }
  for (size_t i = 0; i < slices.size(); ++i) {
    check_shard(manifest.shards[i], std::move(slices[i]), origin);
  }
}

}  // namespace

std::string shard_name(int rank) {
  char name[64];
  std::snprintf(name, sizeof(name), "rank-%05d.safetensors", rank);
  return name;
}

void check_tiling(const TensorRecord& tensor, int64_t elements, const std::string& origin) {
  const std::string where = origin + ": tensor \"" + tensor.name + "\": elements ";
  const auto interval = [](int64_t begin, int64_t end) {
    return "[" + std::to_string(begin) + ", " + std::to_string(end) + ")";
  };
  int64_t expected = 0;
  size_t shard_before = 0;
  for (const Slice& slice : tensor.slices) {
    if (slice.begin >= slice.end || slice.end > elements) {
      throw DataError(where + interval(slice.begin, slice.end) + " are not within " +
                      interval(0, elements));
    }
    if (slice.begin > expected) {
      throw DataError(where + interval(expected, slice.begin) + " are in no slice");
    }
    if (slice.begin < expected) {
      throw DataError(where + interval(slice.begin, std::min(expected, slice.end)) +
                      " are in two slices, of shards " + std::to_string(shard_before) + " and " +
                      std::to_string(slice.shard));
    }
    expected = slice.end;
    shard_before = slice.shard;
  }
  if (expected < elements) {
    throw DataError(where + interval(expected, elements) + " are in no slice");
  }
}

void check_manifest(const Manifest& manifest, const std::string& origin) {
  check_names(manifest, origin);
  check_head(manifest, origin);
  std::unordered_set<std::string> names;
  for (const TensorRecord& tensor : manifest.tensors) {
    if (!names.insert(tensor.name).second) {
      throw DataError(origin + ": two tensors are named \"" + tensor.name + "\"");
    }
    check_tensor(tensor, origin);
  }
  check_shards(manifest, origin);
}

nlohmann::ordered_json tensor_json(const TensorRecord& tensor,
                                   const std::vector<ShardRecord>& shards) {
  nlohmann::ordered_json slices = nlohmann::ordered_json::array();
  for (const Slice& slice : tensor.slices) {
    slices.push_back({{"begin", slice.begin},
                      {"end", slice.end},
                      {"file", shards.at(slice.shard).name},
                      {"offset", slice.offset},
                      {"bytes", slice.bytes},
                      {"xxh3", digest_text(slice.xxh3)}});
  }
  return {{"name", tensor.name},
          {"shape", tensor.shape},
          {"dtype", tensor.dtype},
          {"kind", tensor.kind},
          {"slices", std::move(slices)}};
}

TensorRecord parse_tensor(const nlohmann::json& json, const std::vector<ShardRecord>& shards,
                          const std::string& origin) {
  JsonFields fields(json, origin + ": a tensor");
  TensorRecord tensor;
  tensor.name = fields.text("name");
  const std::string where = origin + ": tensor \"" + tensor.name + "\"";
  for (const nlohmann::json& size : fields.array("shape")) {
    tensor.shape.push_back(JsonFields::as_count(size, where + ": a dimension"));
  }
  tensor.dtype = fields.text("dtype");
  tensor.kind = fields.text("kind");
  for (const nlohmann::json& slice : fields.array("slices")) {
    tensor.slices.push_back(parse_slice(slice, shards, where));
  }
  fields.finish();
  return tensor;
}

nlohmann::ordered_json shard_json(const ShardRecord& shard) {
  return {{"bytes", shard.bytes},
          {"header_bytes", shard.header_bytes},
          {"header_xxh3", digest_text(shard.header_xxh3)}};
}

ShardRecord parse_shard(const std::string& name, const nlohmann::json& json,
                        const std::string& origin) {
  const std::string where = origin + ": shard " + name;
  JsonFields fields(json, where);
  ShardRecord shard{name, fields.number("bytes"), fields.number("header_bytes"),
                    digest_field(fields, "header_xxh3", where)};
  fields.finish();
  return shard;
}

std::string manifest_text(const Manifest& manifest) {
  nlohmann::ordered_json shards = nlohmann::ordered_json::object();
  for (const ShardRecord& shard : manifest.shards) shards[shard.name] = shard_json(shard);
  const nlohmann::ordered_json layout = {{"world", manifest.world},
                                         {"expert", manifest.expert_parallel},
                                         {"zero", manifest.zero_stage}};
  std::string text = "{\n\"format\":\"" + std::string(kFormat) + "\"";
  text += ",\n\"version\":" + std::to_string(kManifestVersion);
  text += ",\n\"save_id\":\"" + manifest.save_id + "\"";
  text += ",\n\"step\":" + std::to_string(manifest.step);
  text += ",\n\"cursor\":" + std::to_string(manifest.cursor);
  text += ",\n\"config_xxh3\":\"" + digest_text(manifest.config_xxh3) + "\"";
  text += ",\n\"layout\":" + layout.dump();
  text += ",\n\"state\":" + manifest.state.dump();
  text += ",\n\"files\":" + files_json(manifest.files).dump();
  text += ",\n\"shards\":" + shards.dump();
  text += ",\n\"tensors\":[";
  const char* separator = "\n";
  for (const TensorRecord& tensor : manifest.tensors) {
    text += separator + tensor_json(tensor, manifest.shards).dump();
    separator = ",\n";
  }
  text += "\n]";
  const std::string digest = digest_text(xxh3(text.data(), text.size()));
  return text.append(kTailBegin).append(digest).append(kTailEnd);
}

Manifest parse_manifest(std::string_view text, const std::string& origin) {
  const std::string body = std::string(check_own_digest(text, origin)) + "}";
  const nlohmann::json json = parse_json(body, origin, kLimits);
  JsonFields fields(json, origin);
  check_version(fields, origin);
  Manifest manifest;
  manifest.save_id = fields.text("save_id");
  manifest.step = fields.count("step");
  manifest.cursor = fields.number("cursor");
  manifest.config_xxh3 = digest_field(fields, "config_xxh3", origin);
  parse_layout(fields.object("layout"), manifest, origin);
  manifest.state = fields.object("state");
  manifest.files = parse_files(fields.object("files"), origin);
  for (const auto& [name, shard] : fields.object("shards").items()) {
    manifest.shards.push_back(parse_shard(name, shard, origin));  // items() are sorted
  }
  for (const nlohmann::json& tensor : fields.array("tensors")) {
    manifest.tensors.push_back(parse_tensor(tensor, manifest.shards, origin));
  }
  fields.finish();
  check_manifest(manifest, origin);
  return manifest;
}

}  // namespace switchyard
