#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

/// A token that is found in the text before anything else is done to it, as in
/// `added_tokens` of a Hugging Face tokenizer.json.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool lstrip = false;   // takes the white space before it
  bool rstrip = false;   // takes the white space behind it
  bool special = false;  // stands for no text
};

/// Finds added tokens: leftmost first, of those the longest.
class AddedTokens {
 public:
  void add(AddedToken token);
  bool empty() const { return tokens_.empty(); }

  /// Cuts a text at its tokens: `on_text` gets what is between them, `on_token` their
  /// ids, in the order of the text.
  void split(std::string_view text, const std::function<void(std::string_view)>& on_text,
             const std::function<void(int32_t)>& on_token) const;

 private:
  const AddedToken* token_at(std::string_view text, size_t at) const;

  std::vector<AddedToken> tokens_;  // longest first
  std::vector<std::vector<size_t>> by_first_byte_ = std::vector<std::vector<size_t>>(256);
};

}  // namespace switchyard
