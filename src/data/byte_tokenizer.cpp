#include "data/byte_tokenizer.h"

#include <algorithm>

namespace switchyard {

void ByteTokenizer::encode(std::string_view text, const TokenSink& sink) const {
  constexpr size_t kBlock = 1 << 14;
  std::vector<int32_t> ids;
  for (size_t at = 0; at < text.size(); at += kBlock) {
    const std::string_view block = text.substr(at, kBlock);
    ids.resize(block.size());
    std::transform(block.begin(), block.end(), ids.begin(),
                   [](char c) { return static_cast<unsigned char>(c); });
    sink(ids);
  }
}

std::string ByteTokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  text.reserve(ids.size());
  for (const int32_t id : ids) {
    if (id >= 0 && id < kEos) text += static_cast<char>(id);
  }
  return text;
}

}  // namespace switchyard
