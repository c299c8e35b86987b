#include "data/tiktoken_tokenizer.h"

#include <charconv>
#include <filesystem>
#include <optional>
#include <unordered_map>

#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"

namespace switchyard {
namespace {

constexpr const char* kGpt2Pattern =
    R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kCl100kPattern =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]|\s+(?!\S)|\s)";
constexpr const char* kO200kPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct Encoding {
  const char* name;  // part of the file's name
  const char* pattern;
  int32_t eos;         // -1: behind the last rank
  int64_t vocab_size;  // special tokens included; 0: eos is the last
};

constexpr Encoding kEncodings[] = {
    {"o200k", kO200kPattern, 199999, 200019}, {"cl100k", kCl100kPattern, 100257, 100277},
    {"p50k", kGpt2Pattern, 50256, 50281},     {"r50k", kGpt2Pattern, 50256, 50257},
    {"gpt2", kGpt2Pattern, 50256, 50257},     {"", kCl100kPattern, -1, 0},
};

const Encoding& encoding_of(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename().string();
  const Encoding* encoding = kEncodings;
  while (name.find(encoding->name) == std::string::npos) ++encoding;
  return *encoding;
}

/// Bytes of padded base64; nothing if it is none.
std::optional<std::string> from_base64(std::string_view text) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int have = 0;
  size_t at = 0;
  for (; at < text.size() && text[at] != '='; ++at) {
    const size_t digit = kDigits.find(text[at]);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    have += 6;
    if (have < 8) continue;
    have -= 8;
    bytes += static_cast<char>(bits >> have & 0xFF);
  }
  if (text.size() % 4 != 0 || text.size() - at > 2) return std::nullopt;
  if (text.substr(at).find_first_not_of('=') != std::string_view::npos) return std::nullopt;
  return bytes;
}

struct RankLine {
  std::string token;
  int32_t rank;
};

std::optional<RankLine> parse_line(std::string_view line) {
  constexpr int32_t kMaxRank = 1 << 24;
  const size_t space = line.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  auto token = from_base64(line.substr(0, space));
  int32_t rank = -1;
  const char* end = line.data() + line.size();
  const auto parsed = std::from_chars(line.data() + space + 1, end, rank);
  if (!token || token->empty() || parsed.ec != std::errc() || parsed.ptr != end)
    return std::nullopt;
  if (rank < 0 || rank > kMaxRank) return std::nullopt;
  return RankLine{std::move(*token), rank};
}

}  // namespace

TiktokenTokenizer::TiktokenTokenizer(const std::string& path)
    : pre_tokenizer_(encoding_of(path).pattern, path) {
  read_ranks(path);
  add_merges();
  const Encoding& encoding = encoding_of(path);
  const auto ranks = static_cast<int32_t>(bytes_of_id_.size());
  eos_ = encoding.eos < 0 ? ranks : encoding.eos;
  vocab_size_ = std::max<int64_t>({encoding.vocab_size, ranks, eos_ + 1});
  if (eos_ < ranks && !bytes_of_id_[eos_].empty()) {
    throw DataError(path + ": its name says " + encoding.name + ", but rank " +
                    std::to_string(eos_) +
                    ", which is <|endoftext|> there, is a token; rename the file");
  }
}

void TiktokenTokenizer::read_ranks(const std::string& path) {
  const std::string text = read_file(path);
  std::unordered_map<std::string, int32_t> seen;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const std::string where = path + ":" + std::to_string(number);
    auto parsed = parse_line(line);
    if (!parsed) throw DataError(where + ": not base64, a space and a rank");
    auto& [token, rank] = *parsed;
    if (static_cast<size_t>(rank) >= bytes_of_id_.size()) bytes_of_id_.resize(rank + 1);
    if (!bytes_of_id_[rank].empty() || !seen.emplace(token, rank).second) {
      throw DataError(where + ": a rank or a token that an earlier line has");
    }
    bytes_of_id_[rank] = std::move(token);
  }
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = seen.find(std::string(1, static_cast<char>(byte)));
    if (found == seen.end())
      throw DataError(path + ": lacks byte " + std::to_string(byte) + "; it is torn");
    bpe_.set_byte(static_cast<uint8_t>(byte), found->second);
  }
}

/// tiktoken merges any two neighbours that are a token together, so every way to
/// halve a token is a merge, and the rank is the token's. A word that is a token is
/// that token.
void TiktokenTokenizer::add_merges() {
  std::unordered_map<std::string_view, int32_t> ids;
  const auto ranks = static_cast<int32_t>(bytes_of_id_.size());
  for (int32_t id = 0; id < ranks; ++id) {
    if (!bytes_of_id_[id].empty()) ids.emplace(bytes_of_id_[id], id);
  }
  for (const auto& [token, id] : ids) {
    bpe_.add_whole_word(std::string(token), id);
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ids.find(token.substr(0, cut)), right = ids.find(token.substr(cut));
      if (left != ids.end() && right != ids.end())
        bpe_.add_merge(left->second, right->second, id, id);
    }
  }
}

void TiktokenTokenizer::encode(std::string_view text, const TokenSink& sink) const {
  constexpr size_t kFlushTokens = 1 << 14;
  if (const auto invalid = first_invalid_utf8(text)) {
    throw DataError("byte " + std::to_string(*invalid) + " of the text is not valid UTF-8");
  }
  std::vector<int32_t> ids;
  pre_tokenizer_.split(text, [&](std::string_view word) {
    bpe_.encode(word, ids);
    if (ids.size() <= kFlushTokens) return;
    sink(ids);
    ids.clear();
  });
  if (!ids.empty()) sink(ids);
}

std::string TiktokenTokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) {
    if (id >= 0 && static_cast<size_t>(id) < bytes_of_id_.size()) text += bytes_of_id_[id];
  }
  return text;
}

}  // namespace switchyard
