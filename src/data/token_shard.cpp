#include "data/token_shard.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <limits>
#include <numeric>

#include "base/checksum.h"
#include "base/error.h"

namespace switchyard {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

namespace {

constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
constexpr uint64_t kVersion = 1;
constexpr size_t kHeaderBytes = 34;
constexpr int64_t kMaxSequence = std::numeric_limits<int32_t>::max();

template <typename T>
T load(std::string_view bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

template <typename T>
void store(FileWriter& file, T value) {
  file.append(&value, sizeof(T));
}

template <typename T>
void narrow(std::span<const int32_t> tokens, std::vector<std::byte>& out) {
  out.resize(tokens.size() * sizeof(T));
  for (size_t i = 0; i < tokens.size(); ++i) {
    const T value = static_cast<T>(tokens[i]);
    std::memcpy(out.data() + i * sizeof(T), &value, sizeof(T));
  }
}

template <typename T>
void widen(const std::vector<std::byte>& bytes, int64_t count, int64_t* out) {
  for (int64_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = value;
  }
}

void write_index(const std::string& path, TokenType type,
                 const std::vector<int64_t>& document_tokens) {
  std::vector<int32_t> lengths;
  std::vector<int64_t> documents = {0};
  for (int64_t tokens : document_tokens) {
    for (; tokens > kMaxSequence; tokens -= kMaxSequence) lengths.push_back(kMaxSequence);
    lengths.push_back(static_cast<int32_t>(tokens));
    documents.push_back(static_cast<int64_t>(lengths.size()));
  }
  FileWriter file(path);
  file.append(kMagic);
  store(file, kVersion);
  store(file, static_cast<uint8_t>(type));
  store(file, static_cast<uint64_t>(lengths.size()));
  store(file, static_cast<uint64_t>(documents.size()));
  file.append(lengths.data(), lengths.size() * sizeof(int32_t));
  int64_t offset = 0;
  for (const int32_t length : lengths) {
    store(file, offset);
    offset += length * static_cast<int64_t>(token_bytes(type));
  }
  file.append(documents.data(), documents.size() * sizeof(int64_t));
  file.fsync();
  file.close();
}

/// Moves everything from `offset` on into a new file.
void move_tail(const std::string& from, uint64_t offset, const std::string& to) {
  const FileReader source(from);
  FileWriter target(to);
  std::vector<std::byte> block(size_t{1} << 20);
  for (uint64_t at = offset; at < source.size(); at += block.size()) {
    block.resize(std::min<uint64_t>(block.size(), source.size() - at));
    source.pread_exact(at, block);
    target.append(block.data(), block.size());
  }
  target.fsync();
  target.close();
  std::error_code error;
  std::filesystem::resize_file(from, offset, error);
  if (error) throw DataError(from + ": cannot cut it to size: " + error.message());
  FileWriter shortened(from, OpenMode::kAppend);
  shortened.fsync();
  shortened.close();
}

}  // namespace

TokenType token_type_for(int64_t vocab_size) {
  return vocab_size < 65500 ? TokenType::kUint16 : TokenType::kInt32;
}

size_t token_bytes(TokenType type) { return type == TokenType::kUint16 ? 2 : 4; }

const char* token_type_name(TokenType type) {
  return type == TokenType::kUint16 ? "uint16" : "int32";
}

TokenType parse_token_type(std::string_view name, const std::string& where) {
  if (name == "uint16" || name == "u16") return TokenType::kUint16;
  if (name == "int32" || name == "i32") return TokenType::kInt32;
  throw DataError(where + ": dtype \"" + std::string(name) + "\" is neither uint16 nor int32");
}

TokenShardWriter::TokenShardWriter(const std::string& prefix, TokenType type)
    : prefix_(prefix), type_(type), bin_(prefix + ".bin") {}

void TokenShardWriter::append(std::span<const int32_t> tokens) {
  const int32_t limit = type_ == TokenType::kUint16 ? 65535 : std::numeric_limits<int32_t>::max();
  for (const int32_t token : tokens) {
    if (token < 0 || token > limit) {
      throw DataError(bin_.path() + ": token " + std::to_string(token) + " does not fit " +
                      token_type_name(type_));
    }
  }
  type_ == TokenType::kUint16 ? narrow<uint16_t>(tokens, buffer_)
                              : narrow<int32_t>(tokens, buffer_);
  bin_.append(buffer_.data(), buffer_.size());
  num_tokens_ += static_cast<int64_t>(tokens.size());
  open_tokens_ += static_cast<int64_t>(tokens.size());
}

void TokenShardWriter::end_document() {
  document_tokens_.push_back(open_tokens_);
  open_tokens_ = 0;
}

void TokenShardWriter::close_document() {
  if (open_tokens_ > 0) end_document();
}

void TokenShardWriter::finish() {
  close_document();
  bin_.fsync();
  bin_.close();
  write_index(prefix_ + ".idx", type_, document_tokens_);
}

TokenShardWriter::Tail TokenShardWriter::finish_with_tail(const std::string& tail_prefix,
                                                          int64_t tail_tokens) {
  close_document();
  bin_.close();
  const int64_t head_tokens = num_tokens_ - tail_tokens;
  move_tail(prefix_ + ".bin", head_tokens * token_bytes(type_), tail_prefix + ".bin");

  std::vector<int64_t> tail;
  int64_t left = tail_tokens;
  for (; left > 0 && document_tokens_.back() <= left; document_tokens_.pop_back()) {
    left -= document_tokens_.back();
    tail.push_back(document_tokens_.back());
  }
  if (left > 0) {
    document_tokens_.back() -= left;
    tail.push_back(left);
  }
  std::reverse(tail.begin(), tail.end());
  write_index(prefix_ + ".idx", type_, document_tokens_);
  write_index(tail_prefix + ".idx", type_, tail);
  return {static_cast<int64_t>(tail.size()), left};
}

TokenShard::TokenShard(const std::string& prefix) : bin_(prefix + ".bin") {
  const MappedFile index(prefix + ".idx");
  check_index(index.text(), index.path());
  take_fingerprint(index.text());
}

void TokenShard::check_index(std::string_view index, const std::string& path) {
  const auto require = [&path](bool holds, const std::string& otherwise) {
    if (!holds) throw DataError(path + ": " + otherwise);
  };
  require(index.size() >= kHeaderBytes,
          "too short for a token index (" + std::to_string(index.size()) + " bytes); it is torn");
  require(index.substr(0, kMagic.size()) == kMagic,
          "not a Megatron token index (it does not begin with MMIDIDX)");
  require(load<uint64_t>(index, 9) == kVersion,
          "token index of version " + std::to_string(load<uint64_t>(index, 9)) + "; 1 is known");
  const auto code = load<uint8_t>(index, 17);
  require(code == 4 || code == 8,
          "tokens of dtype code " + std::to_string(code) + "; 4 (int32) and 8 (uint16) are known");
  type_ = static_cast<TokenType>(code);

  const auto sequences = load<uint64_t>(index, 18), bounds = load<uint64_t>(index, 26);
  const uint64_t room = index.size() - kHeaderBytes;
  require(sequences <= room / 12 && bounds <= room / 8 && sequences * 12 + bounds * 8 == room,
          "says " + std::to_string(sequences) + " sequences and " + std::to_string(bounds) +
              " document bounds, which is not its size of " + std::to_string(index.size()) +
              " bytes; it is torn");
  const size_t pointers = kHeaderBytes + sequences * 4, documents = pointers + sequences * 8;

  const auto width = static_cast<int64_t>(token_bytes(type_));
  for (uint64_t i = 0; i < sequences; ++i) {
    const auto length = load<int32_t>(index, kHeaderBytes + i * 4);
    require(length >= 0, "sequence " + std::to_string(i) + " has a negative length");
    require(load<int64_t>(index, pointers + i * 8) == num_tokens_ * width,
            "sequence " + std::to_string(i) + " does not begin where the one before it ends");
    num_tokens_ += length;
  }
  require(bounds >= 1 && load<int64_t>(index, documents) == 0 &&
              load<int64_t>(index, documents + (bounds - 1) * 8) == static_cast<int64_t>(sequences),
          "the document bounds do not run from 0 to the number of sequences");
  for (uint64_t i = 1; i < bounds; ++i) {
    require(
        load<int64_t>(index, documents + (i - 1) * 8) <= load<int64_t>(index, documents + i * 8),
        "document " + std::to_string(i) + " begins before the one before it");
  }
  num_documents_ = static_cast<int64_t>(bounds) - 1;
  if (bin_.size() != static_cast<uint64_t>(num_tokens_ * width)) {
    throw DataError(bin_.path() + ": has " + std::to_string(bin_.size()) +
                    " bytes where its index says " + std::to_string(num_tokens_ * width) +
                    "; it is torn, or not of this index");
  }
}

void TokenShard::take_fingerprint(std::string_view index) {
  constexpr uint64_t kBlocks = 64, kBlockBytes = 4096;
  Xxh3Stream hash;
  hash.update(index.data(), index.size());
  const uint64_t size = bin_.size();
  hash.update(&size, sizeof(size));
  std::vector<std::byte> block(std::min(size, kBlockBytes));
  for (uint64_t i = 0; i < kBlocks; ++i) {
    const uint64_t last = size - block.size();
    bin_.pread_exact(last * i / (kBlocks - 1), block);
    hash.update(block.data(), block.size());
  }
  fingerprint_ = hash.digest();
}

void TokenShard::read(int64_t begin, int64_t count, int64_t* out) const {
  const size_t width = token_bytes(type_);
  std::vector<std::byte> bytes(count * width);
  bin_.pread_exact(begin * width, bytes);
  type_ == TokenType::kUint16 ? widen<uint16_t>(bytes, count, out)
                              : widen<int32_t>(bytes, count, out);
}

}  // namespace switchyard
