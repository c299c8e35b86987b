#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace switchyard {

/// A pattern of a tokenizer's file, run by PCRE2 (with its JIT where there is one) so
/// that it matches what the regex engines of Hugging Face tokenizers (Oniguruma, Ruby
/// syntax) and of tiktoken (Rust) match: \s is Unicode's White_Space, \d is Nd, ^ and
/// $ stand at line ends. What these engines read differently (\w, \b, \h, sets inside
/// sets, possessive counts) is refused, not guessed. One thread at a time.
class Regex {
 public:
  /// Throws DataError with `origin` in front for a pattern that is not understood.
  Regex(const std::string& pattern, const std::string& origin);
  ~Regex();
  Regex(Regex&&) noexcept;

  /// A pattern for exactly this text.
  static std::string literal(std::string_view text);

  struct Match {
    size_t begin, end;
  };
  /// The first match that begins at `from` or later, [size, size) if there is none.
  /// The text is valid UTF-8; look-behind sees what is before `from`.
  Match find(std::string_view text, size_t from) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace switchyard
