#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset_meta.h"

namespace switchyard {

/// Where the tokens of a text go as they are made, some thousands at a time. The
/// span is valid during the call only.
using TokenSink = std::function<void(std::span<const int32_t>)>;

/// Text to ids and back. What Hugging Face calls `add_special_tokens` is off: no
/// template is applied, nothing is put before or after; whoever wants an
/// end-of-text id appends eos(). One thread at a time per object: there is a cache.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// The ids of one whole text, whose memory may be a mapped file larger than RAM.
  /// Throws DataError if the text is not what the tokenizer takes (see reads_utf8).
  virtual void encode(std::string_view text, const TokenSink& sink) const = 0;

  /// The bytes that the ids stand for, one after another, so that the decodings of
  /// two halves make the decoding of the whole. Special tokens and ids that nobody
  /// knows stand for nothing. The bytes of a part of a character are not valid UTF-8.
  virtual std::string decode(std::span<const int32_t> ids) const = 0;

  /// Every id is in [0, vocab_size()).
  virtual int64_t vocab_size() const = 0;
  /// The id that ends a document.
  virtual int32_t eos() const = 0;
  /// Whether a text must be valid UTF-8; otherwise any bytes will do.
  virtual bool reads_utf8() const { return true; }

  void encode(std::string_view text, std::vector<int32_t>& out) const;
  std::vector<int32_t> encode(std::string_view text) const;
};

/// A tokenizer as the command line names it.
struct TokenizerSpec {
  enum class Kind { kBytes, kHuggingFace, kTiktoken };
  Kind kind;
  std::string path;  // empty for bytes
};

/// bytes | hf:TOKENIZER.JSON (or the folder that holds it) | tiktoken:FILE. Throws
/// ConfigError for anything else.
TokenizerSpec parse_tokenizer_spec(const std::string& spec);

/// Loads what `spec` names. Throws DataError when the file is missing, torn, or of
/// a kind that is not built in: the message names the kind.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& spec);

/// The tokenizer of a data folder, with meta.json's eos. Throws DataError also if the
/// file's digest is not the one in meta.json, or meta.json names no tokenizer that is
/// built in (the tokens can be trained on all the same).
std::unique_ptr<Tokenizer> load_dataset_tokenizer(const std::string& dir, const DatasetMeta& meta);

/// Names of the files in `dir` that load_dataset_tokenizer reads: with meta.json they
/// are all that another folder needs to turn text into the same tokens. None for
/// bytes, and for a tokenizer that is not built in or lies elsewhere.
std::vector<std::string> dataset_tokenizer_files(const std::string& dir, const DatasetMeta& meta);

/// Copies the files of a tokenizer into `dir` and fills in meta's tokenizer,
/// digest, vocab_size and eos, so that the folder stands by itself.
void adopt_tokenizer(const std::string& spec, const Tokenizer& tokenizer, const std::string& dir,
                     DatasetMeta& meta);

}  // namespace switchyard
