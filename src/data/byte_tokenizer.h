#pragma once

#include "data/tokenizer.h"

namespace switchyard {

/// Every byte is its own id; 256 ends a document. Needs no file, loses nothing,
/// takes any bytes.
class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr int32_t kEos = 256;

  using Tokenizer::encode;
  void encode(std::string_view text, const TokenSink& sink) const override;
  std::string decode(std::span<const int32_t> ids) const override;
  int64_t vocab_size() const override { return kEos + 1; }
  int32_t eos() const override { return kEos; }
  bool reads_utf8() const override { return false; }
};

}  // namespace switchyard
