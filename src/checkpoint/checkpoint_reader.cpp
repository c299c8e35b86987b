#include "checkpoint/checkpoint_reader.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "base/checksum.h"
#include "base/error.h"
#include "base/file.h"
#include "base/safetensors.h"
#include "distributed/placement.h"

namespace switchyard {
namespace {

constexpr uint64_t kPieceBytes = uint64_t{1} << 20;
constexpr uint64_t kMaxManifestBytes = uint64_t{1} << 30;

Manifest load_manifest(const std::string& folder) {
  const std::string path = folder + "/" + kManifestName;
  return parse_manifest(read_file(path, kMaxManifestBytes, Symlinks::kRefuse), path);
}

void check_size(const std::string& path, uint64_t expected) {
  const uint64_t actual = FileReader(path, Symlinks::kRefuse).size();
  if (actual != expected) {
    throw DataError(path + ": " + std::to_string(actual) + " bytes, the manifest says " +
                    std::to_string(expected));
  }
}

void check_digest(const std::string& what, uint64_t actual, uint64_t expected) {
  if (actual == expected) return;
  throw DataError(what + ": damaged: the digest is " + digest_text(actual) +
                  ", the manifest says " + digest_text(expected));
}

std::string describe(const TensorRecord& tensor, const Slice& slice) {
  return "tensor \"" + tensor.name + "\", elements [" + std::to_string(slice.begin) + ", " +
         std::to_string(slice.end) + ") at byte " + std::to_string(slice.offset);
}

}  // namespace

CheckpointReader::CheckpointReader(const std::string& step_dir, Digests digests, Opening opening)
    : path_(step_dir), digests_(digests), manifest_(load_manifest(step_dir)) {
  for (size_t i = 0; i < manifest_.tensors.size(); ++i) {
    index_.emplace(manifest_.tensors[i].name, i);
  }
  header_checked_.resize(manifest_.shards.size(), digests == Digests::kTrust);
  if (opening == Opening::kWhole) check_files();
}

void CheckpointReader::check_files() const {
  for (const std::string& name : unknown_shards()) {
    throw DataError(path_ + "/" + name + ": a shard that the manifest does not know");
  }
  for (size_t shard = 0; shard < manifest_.shards.size(); ++shard) check_shard_size(shard);
  for (const FileRecord& file : manifest_.files) read_text(file.name);
}

std::vector<std::string> CheckpointReader::unknown_shards() const {
  const auto is_known = [&](const std::string& name) {
    return std::any_of(manifest_.shards.begin(), manifest_.shards.end(),
                       [&](const ShardRecord& shard) { return shard.name == name; });
  };
  std::vector<std::string> unknown;
  for (const std::string& name : list_folder(path_)) {
    if (name.starts_with("rank-") && !is_known(name)) unknown.push_back(name);
  }
  return unknown;
}

void CheckpointReader::check_shard_size(size_t shard) const {
  const ShardRecord& record = manifest_.shards.at(shard);
  check_size(path_ + "/" + record.name, record.bytes);
}

const TensorRecord& CheckpointReader::tensor(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) throw DataError(path_ + ": no tensor \"" + name + "\"");
  return manifest_.tensors[found->second];
}

void CheckpointReader::read(const std::string& name, std::string_view dtype, int64_t begin,
                            int64_t end, void* out) {
  const TensorRecord& record = tensor(name);
  const std::string where = path_ + ": tensor \"" + name + "\"";
  if (record.dtype != dtype) {
    throw DataError(where + ": stored as " + record.dtype + ", wanted as " + std::string(dtype));
  }
  const int64_t elements = *element_count(record.shape);
  if (begin < 0 || begin > end || end > elements) {
    throw DataError(where + ": wanted elements [" + std::to_string(begin) + ", " +
                    std::to_string(end) + ") of " + std::to_string(elements));
  }
  const auto element_bytes = static_cast<uint64_t>(*dtype_bits(record.dtype) / 8);
  const auto first = std::partition_point(record.slices.begin(), record.slices.end(),
                                          [&](const Slice& s) { return s.end <= begin; });
  for (auto slice = first; slice != record.slices.end() && slice->begin < end; ++slice) {
    const Interval part = intersect({begin, end}, {slice->begin, slice->end});
    if (part.empty()) continue;
    read_slice(record, *slice, (part.begin - slice->begin) * element_bytes,
               (part.end - slice->begin) * element_bytes,
               static_cast<std::byte*>(out) + (part.begin - begin) * element_bytes);
  }
}

std::string CheckpointReader::shard_path(const Slice& slice) const {
  return path_ + "/" + manifest_.shards[slice.shard].name;
}

/// Bytes [begin, end) of a slice.
void CheckpointReader::read_slice(const TensorRecord& tensor, const Slice& slice, uint64_t begin,
                                  uint64_t end, std::byte* out) {
  check_shard_header(slice.shard);
  if (digests_ == Digests::kCheck && !checked_.contains(&slice)) {
    stream_slice(tensor, slice, begin, end, out);
    return;
  }
  const FileReader file(shard_path(slice), Symlinks::kRefuse);
  file.pread_exact(slice.offset + begin, std::span(out, end - begin));
  bytes_read_ += end - begin;
}

/// The same, through all of the slice, for its digest.
void CheckpointReader::stream_slice(const TensorRecord& tensor, const Slice& slice, uint64_t begin,
                                    uint64_t end, std::byte* out) {
  const FileReader file(shard_path(slice), Symlinks::kRefuse);
  std::vector<std::byte> piece(std::min(kPieceBytes, slice.bytes));
  Xxh3Stream digest;
  for (uint64_t at = 0; at < slice.bytes; at += piece.size()) {
    piece.resize(std::min<uint64_t>(piece.size(), slice.bytes - at));
    file.pread_exact(slice.offset + at, piece);
    digest.update(piece.data(), piece.size());
    const uint64_t from = std::max(begin, at);
    const uint64_t to = std::min(end, at + piece.size());
    if (from < to) std::memcpy(out + (from - begin), piece.data() + (from - at), to - from);
  }
  bytes_read_ += slice.bytes;
  check_slice_digest(tensor, slice, digest.digest());
  checked_.insert(&slice);
}

std::string CheckpointReader::read_text(const std::string& name) const {
  for (const FileRecord& record : manifest_.files) {
    if (record.name != name) continue;
    const std::string path = path_ + "/" + name;
    check_size(path, record.bytes);
    std::string text = read_file(path, record.bytes, Symlinks::kRefuse);
    check_digest(path, xxh3(text.data(), text.size()), record.xxh3);
    return text;
  }
  throw DataError(path_ + ": no file " + name);
}

void CheckpointReader::check_shard_header(size_t shard) {
  if (header_checked_.at(shard)) return;
  const ShardRecord& record = manifest_.shards[shard];
  const std::string path = path_ + "/" + record.name;
  std::vector<std::byte> header(record.header_bytes);
  pread_exact(path, 0, header);
  check_digest(path + ": header", xxh3(header.data(), header.size()), record.header_xxh3);
  header_checked_[shard] = true;
}

void CheckpointReader::check_slice_digest(const TensorRecord& tensor, const Slice& slice,
                                          uint64_t digest) const {
  check_digest(shard_path(slice) + ": " + describe(tensor, slice), digest, slice.xxh3);
}

void CheckpointReader::check_slice(const TensorRecord& tensor, const Slice& slice) {
  stream_slice(tensor, slice, 0, 0, nullptr);
}

}  // namespace switchyard
