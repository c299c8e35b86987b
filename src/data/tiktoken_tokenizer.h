#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/bpe.h"
#include "data/pre_tokenizer.h"
#include "data/tokenizer.h"

namespace switchyard {

/// A vocabulary of tiktoken: lines of base64 and rank. The same ids as
/// `tiktoken.Encoding(...).encode_ordinary(text)`: special tokens in the text are
/// ordinary text.
///
/// The file has no pattern in it, so the file's name says which encoding it is:
/// one that contains o200k, p50k, r50k, gpt2 or cl100k is that; any other is taken as
/// cut by cl100k's pattern. eos is the encoding's <|endoftext|>; of an unknown
/// name, the id behind the last rank.
class TiktokenTokenizer final : public Tokenizer {
 public:
  /// Throws DataError as FILE:LINE for a line that is not base64 and rank, a rank
  /// or token given twice, and for a file that lacks one of the 256 bytes.
  explicit TiktokenTokenizer(const std::string& path);

  using Tokenizer::encode;
  void encode(std::string_view text, const TokenSink& sink) const override;
  std::string decode(std::span<const int32_t> ids) const override;
  int64_t vocab_size() const override { return vocab_size_; }
  int32_t eos() const override { return eos_; }

 private:
  void read_ranks(const std::string& path);
  void add_merges();

  PreTokenizer pre_tokenizer_;
  Bpe bpe_;
  std::vector<std::string> bytes_of_id_;  // empty: no such rank
  int64_t vocab_size_ = 0;
  int32_t eos_ = 0;
};

}  // namespace switchyard
