#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/added_tokens.h"
#include "data/bpe.h"
#include "data/pre_tokenizer.h"
#include "data/tokenizer.h"

namespace switchyard {

/// A byte-level BPE of Hugging Face, from its tokenizer.json: the same ids as
/// `tokenizers.Tokenizer.from_file(path).encode(text, add_special_tokens=False)`.
///
/// Added tokens, special ones too, are recognised in the text, as there. Built in:
/// model BPE (ignore_merges, unk_token, fuse_unk; merges as pairs or as "a b"),
/// the pre-tokenizers of PreTokenizer, normalizer none, NFC or a Sequence of these.
/// Truncation, padding, the post-processor and the decoder's options are not looked
/// at. Letters and digits are those of PCRE2's Unicode version; a character that is
/// newer may be cut off from its word.
///
/// eos is the one given, else the `eos_token` of tokenizer_config.json in the same folder,
/// else the first of the usual names (<|endoftext|>, </s>, ...) among the added tokens.
class BpeTokenizer final : public Tokenizer {
 public:
  /// Throws DataError that names what is missing or not built in.
  explicit BpeTokenizer(const std::string& path, std::optional<int32_t> eos = std::nullopt);

  using Tokenizer::encode;
  void encode(std::string_view text, const TokenSink& sink) const override;
  std::string decode(std::span<const int32_t> ids) const override;
  int64_t vocab_size() const override { return static_cast<int64_t>(bytes_of_id_.size()); }
  int32_t eos() const override { return eos_; }

 private:
  using Vocabulary = std::unordered_map<std::string, int32_t>;

  void read_model(const nlohmann::json& model);
  Vocabulary read_vocabulary(const nlohmann::json& vocab);
  void read_merges(const nlohmann::json& merges, const Vocabulary& vocabulary);
  void read_normalizer(const nlohmann::json& normalizer);
  void read_added_tokens(const nlohmann::json& added);
  void find_eos(const nlohmann::json& root);
  std::string_view normalize(std::string_view text, std::string& storage) const;
  void set_bytes(int32_t id, std::string bytes);

  std::string path_;
  bool nfc_ = false;
  AddedTokens raw_tokens_;                   // found before the normalizer
  AddedTokens normalized_tokens_;            // found behind it
  std::vector<PreTokenizer> pre_tokenizer_;  // one
  Bpe bpe_;
  std::vector<std::string> bytes_of_id_;
  int32_t eos_ = 0;
};

}  // namespace switchyard
