#include "checkpoint/shard.h"

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/checksum.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/safetensors.h"

namespace switchyard {
namespace {

// Small enough that checking, digest and write meet it in the cache, large enough that the
// writer takes it without a buffer.
constexpr size_t kPieceBytes = size_t{1} << 20;

void check_slice(const OwnedSlice& slice) {
  const auto refuse = [&](const std::string& why) {
    throw DataError("cannot save tensor \"" + slice.name + "\": " + why);
  };
  const std::optional<int64_t> elements = element_count(slice.shape);
  if (!tensor_bytes(slice.dtype, slice.shape)) refuse("dtype and shape have no size in bytes");
  if (slice.begin < 0 || slice.begin > slice.end || slice.end > *elements) {
    refuse("elements [" + std::to_string(slice.begin) + ", " + std::to_string(slice.end) + ") of " +
           std::to_string(*elements));
  }
  if (slice.data == nullptr && !slice.make && !slice.pieces && slice.begin < slice.end) {
    refuse("no data");
  }
}

TensorDeclaration declaration_of(const OwnedSlice& slice) {
  const int64_t elements = slice.end - slice.begin;
  if (elements == element_count(slice.shape)) return {slice.name, slice.dtype, slice.shape};
  return {slice.name + "@" + std::to_string(slice.begin) + "-" + std::to_string(slice.end),
          slice.dtype,
          {elements}};
}

/// The slices that have bytes, larger dtypes first, so that all lie aligned.
std::vector<const OwnedSlice*> in_file_order(const std::vector<OwnedSlice>& slices) {
  std::vector<const OwnedSlice*> order;
  for (const OwnedSlice& slice : slices) {
    check_slice(slice);
    if (slice.begin < slice.end) order.push_back(&slice);
  }
  std::sort(order.begin(), order.end(), [](const OwnedSlice* a, const OwnedSlice* b) {
    const int bits_a = *dtype_bits(a->dtype);
    const int bits_b = *dtype_bits(b->dtype);
    return std::tie(bits_b, a->name, a->begin) < std::tie(bits_a, b->name, b->begin);
  });
  return order;
}

/// The first of `count` floats whose exponent is all ones, as of infinities and NaNs
/// alone; `count` when there is none.
template <typename Bits>
size_t first_non_finite(const char* data, size_t count, Bits exponent) {
  const auto* x = reinterpret_cast<const Bits*>(data);
  Bits found = 0;  // as wide as the numbers: the loop is a vector instruction
  for (size_t i = 0; i < count; ++i) found |= static_cast<Bits>((x[i] & exponent) == exponent);
  if (found == 0) return count;
  return std::find_if(x, x + count, [&](Bits b) { return (b & exponent) == exponent; }) - x;
}

/// `offset`: of these bytes in the slice.
void refuse_non_finite(const OwnedSlice& slice, uint64_t offset, const char* data, size_t bytes) {
  const size_t element_bytes = *dtype_bits(slice.dtype) / 8;
  const size_t count = bytes / element_bytes;
  size_t at = count;
  if (slice.dtype == "F32") at = first_non_finite<uint32_t>(data, count, 0x7f800000U);
  if (slice.dtype == "BF16") at = first_non_finite<uint16_t>(data, count, uint16_t{0x7f80});
  if (slice.dtype == "F64") at = first_non_finite<uint64_t>(data, count, 0x7ff0000000000000U);
  if (at == count) return;
  const uint64_t element = slice.begin + offset / element_bytes + at;
  throw NonFiniteError("element " + std::to_string(element) + " of tensor \"" + slice.name +
                       "\" is not finite; go back to an earlier checkpoint");
}

/// Appends the bytes and returns their digest.
uint64_t write_bytes(SafetensorsWriter& writer, const OwnedSlice& slice, uint64_t bytes,
                     NonFinite non_finite) {
  Xxh3Stream digest;
  uint64_t written = 0;
  const auto write = [&](const void* some, uint64_t count) {
    const auto* data = static_cast<const char*>(some);
    for (uint64_t at = 0; at < count; at += kPieceBytes) {
      const size_t piece = std::min<uint64_t>(count - at, kPieceBytes);
      if (non_finite == NonFinite::kRefuse) refuse_non_finite(slice, written, data + at, piece);
      digest.update(data + at, piece);
      writer.append(data + at, piece);
      written += piece;
    }
  };
  if (slice.pieces) {
    slice.pieces(write);
  } else if (slice.data != nullptr) {
    write(slice.data, bytes);
  } else {
    const auto made = std::make_unique_for_overwrite<std::byte[]>(bytes);
    slice.make(made.get());
    write(made.get(), bytes);
  }
  return digest.digest();
}

/// Digest of bytes [begin, begin + bytes) of a file.
uint64_t digest_of(const FileReader& file, uint64_t begin, uint64_t bytes,
                   std::vector<std::byte>& piece) {
  Xxh3Stream digest;
  for (uint64_t at = 0; at < bytes; at += piece.size()) {
    piece.resize(std::min<uint64_t>(kPieceBytes, bytes - at));
    file.pread_exact(begin + at, piece);
    digest.update(piece.data(), piece.size());
  }
  return digest.digest();
}

/// The record of `slice`'s tensor, made when it is the first of it.
TensorRecord& record_of(const OwnedSlice& slice, std::map<std::string, TensorRecord>& records) {
  TensorRecord& record = records[slice.name];
  if (record.name.empty()) record = {slice.name, slice.shape, slice.dtype, slice.kind, {}};
  if (record.shape != slice.shape || record.dtype != slice.dtype || record.kind != slice.kind) {
    throw DataError("cannot save tensor \"" + slice.name +
                    "\": its slices differ in shape, dtype or kind");
  }
  return record;
}

std::vector<TensorRecord> values_of(std::map<std::string, TensorRecord> records) {
  std::vector<TensorRecord> values;
  for (auto& [name, record] : records) values.push_back(std::move(record));
  return values;
}

}  // namespace

uint64_t slice_bytes(const OwnedSlice& slice) {
  check_slice(slice);
  return static_cast<uint64_t>(slice.end - slice.begin) * *dtype_bits(slice.dtype) / 8;
}

ShardTable write_shard(const std::string& folder, int rank, const std::string& save_id,
                       int64_t step, const std::vector<OwnedSlice>& slices, NonFinite non_finite) {
  const std::vector<const OwnedSlice*> order = in_file_order(slices);
  std::vector<TensorDeclaration> declarations;
  for (const OwnedSlice* slice : order) declarations.push_back(declaration_of(*slice));
  SafetensorsWriter writer(folder + "/" + shard_name(rank), declarations,
                           {{"format", "pt"},
                            {"save_id", save_id},
                            {"step", std::to_string(step)},
                            {"rank", std::to_string(rank)},
                            {"digest", "xxh3"}},
                           OpenMode::kCreateNew);
  std::map<std::string, TensorRecord> records;
  for (const OwnedSlice& slice : slices) record_of(slice, records);
  for (size_t i = 0; i < order.size(); ++i) {
    const TensorEntry& entry = writer.tensors()[i];
    const uint64_t digest = write_bytes(writer, *order[i], entry.bytes, non_finite);
    record_of(*order[i], records)
        .slices.push_back(
            {order[i]->begin, order[i]->end, /*shard=*/0, entry.offset, entry.bytes, digest});
  }
  writer.finish();
  sync_folder(folder);
  return {{shard_name(rank), writer.file_bytes(), writer.header_bytes(), writer.header_xxh3()},
          values_of(std::move(records))};
}

void check_shard(const std::string& folder, const ShardTable& table) {
  const FileReader file(folder + "/" + table.shard.name, Symlinks::kRefuse);
  file.forget_cached_pages();
  std::vector<std::byte> piece;
  const auto check = [&](const std::string& what, uint64_t begin, uint64_t bytes, uint64_t xxh3) {
    if (digest_of(file, begin, bytes, piece) == xxh3) return;
    throw DataError(file.path() + ": " + what +
                    " does not read back as it was written; check the disk and the memory");
  };
  check("header", 0, table.shard.header_bytes, table.shard.header_xxh3);
  for (const TensorRecord& tensor : table.tensors) {
    for (const Slice& slice : tensor.slices) {
      check("tensor \"" + tensor.name + "\"", slice.offset, slice.bytes, slice.xxh3);
    }
  }
}

std::string table_text(const ShardTable& table) {
  nlohmann::ordered_json tensors = nlohmann::ordered_json::array();
  for (const TensorRecord& tensor : table.tensors) {
    tensors.push_back(tensor_json(tensor, {table.shard}));
  }
  return nlohmann::ordered_json{{"name", table.shard.name},
                                {"shard", shard_json(table.shard)},
                                {"tensors", std::move(tensors)}}
      .dump();
}

ShardTable parse_table(const std::string& text, const std::string& origin) {
  const nlohmann::json json = parse_json(text, origin, {size_t{1} << 30, 8});
  JsonFields fields(json, origin);
  ShardTable table;
  table.shard = parse_shard(fields.text("name"), fields.object("shard"), origin);
  for (const nlohmann::json& tensor : fields.array("tensors")) {
    table.tensors.push_back(parse_tensor(tensor, {table.shard}, origin));
  }
  fields.finish();
  return table;
}

void merge_tables(std::vector<ShardTable> tables, Manifest& manifest) {
  std::map<std::string, TensorRecord> merged;
  for (size_t rank = 0; rank < tables.size(); ++rank) {
    manifest.shards.push_back(tables[rank].shard);
    for (TensorRecord& theirs : tables[rank].tensors) {
      for (Slice& slice : theirs.slices) slice.shard = rank;
      const auto [found, is_new] = merged.try_emplace(theirs.name, theirs);
      if (is_new) continue;
      TensorRecord& ours = found->second;
      if (ours.shape != theirs.shape || ours.dtype != theirs.dtype || ours.kind != theirs.kind) {
        throw DataError("cannot save tensor \"" + theirs.name + "\": rank " + std::to_string(rank) +
                        " has another shape, dtype or kind than the ranks " + "before it");
      }
      ours.slices.insert(ours.slices.end(), theirs.slices.begin(), theirs.slices.end());
    }
  }
  manifest.tensors = values_of(std::move(merged));
  for (TensorRecord& tensor : manifest.tensors) {
    std::sort(tensor.slices.begin(), tensor.slices.end(),
              [](const Slice& a, const Slice& b) { return a.begin < b.begin; });
  }
}

}  // namespace switchyard
