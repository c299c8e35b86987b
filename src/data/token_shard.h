#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"

namespace switchyard {

// The tokens of one split in Megatron-LM's layout, which is also nanoGPT's as far as
// the .bin goes. Everything is little-endian and nothing is aligned:
//
//   PREFIX.bin   tokens, one after another, no header
//   PREFIX.idx   at  0   9 bytes  "MMIDIDX\0\0"
//                    9   u64      version: 1
//                   17   u8       dtype code: 4 is int32, 8 is uint16
//                   18   u64      S, sequences
//                   26   u64      D, documents + 1
//                   34   i32[S]   tokens of each sequence
//                        i64[S]   byte offset of each sequence in the .bin
//                        i64[D]   first sequence of each document, then S
//
// A document is one sequence here, or several when it has more than 2^31 - 1 tokens.

/// What one token is stored as. The value is Megatron's dtype code.
enum class TokenType : uint8_t { kInt32 = 4, kUint16 = 8 };

/// Megatron's choice: uint16 below 65500 tokens of vocabulary.
TokenType token_type_for(int64_t vocab_size);
size_t token_bytes(TokenType type);
/// "int32" or "uint16", as meta.json spells it.
const char* token_type_name(TokenType type);
/// The inverse; throws DataError that says `where`.
TokenType parse_token_type(std::string_view name, const std::string& where);

/// Writes a shard as its tokens come; memory is 8 bytes per document. A shard that
/// was not finished has no .idx and is not readable.
class TokenShardWriter {
 public:
  TokenShardWriter(const std::string& prefix, TokenType type);

  /// More tokens of the open document. Throws DataError on an id that the type
  /// does not hold.
  void append(std::span<const int32_t> tokens);
  void end_document();
  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_documents() const { return static_cast<int64_t>(document_tokens_.size()); }

  /// Ends the open document if it has tokens, writes the .idx, syncs both files.
  void finish();

  struct Tail {
    int64_t documents;   // of the tail, the cut one included
    int64_t cut_tokens;  // tokens of the document that was cut, on the tail's side; 0: none was
  };
  /// finish, but the last `tail_tokens` become a shard of their own; a document
  /// in which the cut falls is in both.
  Tail finish_with_tail(const std::string& tail_prefix, int64_t tail_tokens);

 private:
  void close_document();

  std::string prefix_;
  TokenType type_;
  FileWriter bin_;
  int64_t num_tokens_ = 0;
  int64_t open_tokens_ = 0;
  std::vector<int64_t> document_tokens_;
  std::vector<std::byte> buffer_;
};

/// A finished shard, opened after every length and offset of its index was checked
/// against the sizes of both files. Throws DataError that names the file and what
/// is wrong with it. Threads may share one.
class TokenShard {
 public:
  explicit TokenShard(const std::string& prefix);

  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_documents() const { return num_documents_; }
  TokenType type() const { return type_; }
  const std::string& bin_path() const { return bin_.path(); }

  /// Tokens [begin, begin + count) of the stream; the caller keeps inside it.
  void read(int64_t begin, int64_t count, int64_t* out) const;

  /// xxh3 of the whole .idx, and of the .bin's size and 64 blocks spread over it:
  /// cheap at any size, and it tells one corpus from another.
  uint64_t fingerprint() const { return fingerprint_; }

 private:
  void check_index(std::string_view index, const std::string& path);
  void take_fingerprint(std::string_view index);

  FileReader bin_;
  TokenType type_ = TokenType::kUint16;
  int64_t num_tokens_ = 0;
  int64_t num_documents_ = 0;
  uint64_t fingerprint_ = 0;
};

}  // namespace switchyard
