#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "data/regex.h"

namespace switchyard {

/// Cuts a text into the words inside which BPE merges: stages, each of which cuts every
/// piece of the one before (so a look-ahead sees the end of its piece, not of the
/// text). One thread at a time.
class PreTokenizer {
 public:
  using WordSink = std::function<void(std::string_view)>;

  /// One pattern whose matches are the words; what is between them is a word too.
  PreTokenizer(const std::string& pattern, const std::string& origin);

  /// The `pre_tokenizer` of a Hugging Face tokenizer.json: ByteLevel (add_prefix_space,
  /// use_regex), Digits, Split (Isolated, or Removed with invert), or a Sequence of
  /// these with one ByteLevel at the end. Throws DataError that names any other.
  static PreTokenizer from_json(const nlohmann::json& json, const std::string& origin);

  /// Words in order; none is empty. The text is valid UTF-8, and so are they.
  void split(std::string_view text, const WordSink& sink) const { run(0, text, sink); }

 private:
  enum class Gaps { kKeep, kDrop };
  struct Stage {
    std::vector<Regex> regex;  // none: put a space before a piece that begins with none
    Gaps gaps = Gaps::kKeep;
  };

  PreTokenizer() = default;
  void add_json(const nlohmann::json& json, const std::string& origin);
  void add_byte_level(const nlohmann::json& json, const std::string& origin);
  void add_split(const nlohmann::json& json, const std::string& origin);
  void add_pattern(const std::string& pattern, Gaps gaps, const std::string& origin);
  void run(size_t stage, std::string_view piece, const WordSink& sink) const;

  std::vector<Stage> stages_;
  bool complete_ = false;  // ByteLevel was seen
};

}  // namespace switchyard
