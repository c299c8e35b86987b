#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace switchyard {

/// Byte-pair encoding of one word: its bytes become symbols; while two neighbours have
/// a merge, the pair of lowest rank, leftmost first, becomes one symbol. Ranks and
/// ids are the vocabulary's. Remembers words, so one thread at a time.
class Bpe {
 public:
  void set_byte(uint8_t byte, int32_t id) { byte_ids_[byte] = id; }
  void add_merge(int32_t left, int32_t right, int32_t rank, int32_t merged);
  /// A word that is one token, whatever its merges say.
  void add_whole_word(std::string word, int32_t id) { whole_words_[std::move(word)] = id; }

  /// What stands for a byte without an id. Hugging Face drops it where there is no
  /// unknown token, and so does this. Fused: one for a run of them.
  enum class Unknown { kEach, kFused };
  void set_unknown(int32_t id, Unknown unknown);

  void encode(std::string_view word, std::vector<int32_t>& out) const;

 private:
  struct Merge {
    int32_t rank, id;
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  struct Slice {
    uint32_t begin, count;
  };
  struct Symbol {
    int32_t id, previous, next;
  };
  template <typename Value>
  using WordMap = std::unordered_map<std::string, Value, Hash, std::equal_to<>>;

  void merge_word(std::string_view word, std::vector<int32_t>& out) const;
  void make_symbols(std::string_view word) const;
  const Merge* merge_at(int32_t position) const;

  std::array<int32_t, 256> byte_ids_ = [] {
    std::array<int32_t, 256> none;
    none.fill(-1);
    return none;
  }();
  std::unordered_map<uint64_t, Merge> merges_;
  WordMap<int32_t> whole_words_;
  std::optional<int32_t> unknown_;
  Unknown unknown_runs_ = Unknown::kEach;

  mutable std::vector<Symbol> symbols_;
  mutable WordMap<Slice> known_words_;
  mutable std::vector<int32_t> known_ids_;
};

}  // namespace switchyard
