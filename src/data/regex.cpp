#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/regex.h"

#include <pcre2.h>

#include <cctype>
#include <cstring>

#include "base/error.h"

namespace switchyard {
namespace {

/// Rewrites the syntax that the tokenizers' engines share with PCRE2 into PCRE2's.
class Translation {
 public:
  Translation(const std::string& pattern, const std::string& origin)
      : pattern_(pattern), origin_(origin) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      if (pattern_[at_] == '\\') {
        escape();
      } else if (in_set_) {
        set_member();
      } else {
        if (pattern_[at_] == '[') open_set();
        if (pattern_[at_] == '}') refuse_possessive_count();
        out_ += pattern_[at_++];
      }
    }
    return out_;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw DataError(origin_ + ": pattern " + pattern_ + ": " + what +
                    " means different things in different regex engines and is not built in");
  }

  void escape() {
    const char letter = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
    at_ += 2;
    switch (letter) {
      case 's':
        out_ += "\\p{White_Space}";
        return;
      case 'S':
        out_ += "\\P{White_Space}";
        return;
      case 'd':
        out_ += "\\p{Nd}";
        return;
      case 'D':
        out_ += "\\P{Nd}";
        return;
      case 'u':
        out_ += "\\x{" + pattern_.substr(at_, 4) + "}";
        at_ += 4;
        return;
      default:
        break;
    }
    if (std::isalnum(static_cast<unsigned char>(letter)) != 0 &&
        std::strchr("pPrntfvxzA", letter) == nullptr) {
      refuse(std::string("\\") + letter);
    }
    out_ += '\\';
    out_ += letter;
  }

  void open_set() {
    in_set_ = true;
    set_begin_ = at_ + 1;
    if (set_begin_ < pattern_.size() && pattern_[set_begin_] == '^') ++set_begin_;
  }

  void set_member() {
    const char c = pattern_[at_];
    if (c == '[') refuse("a set inside a set");
    if (c == '&' && pattern_.compare(at_, 2, "&&") == 0) refuse("&& in a set");
    if (c == ']' && at_ != set_begin_) in_set_ = false;
    out_ += c;
    ++at_;
  }

  /// {1,3}+ is possessive in PCRE2 and a repeated repeat in Oniguruma.
  void refuse_possessive_count() const {
    if (at_ + 1 < pattern_.size() && pattern_[at_ + 1] == '+') {
      const size_t open = pattern_.rfind('{', at_);
      if (open != std::string::npos && open > 0 &&
          std::strchr("pPx", pattern_[open - 1]) == nullptr) {
        refuse("a counted repeat followed by +");
      }
    }
  }

  const std::string& pattern_;
  const std::string& origin_;
  std::string out_;
  size_t at_ = 0;
  bool in_set_ = false;
  size_t set_begin_ = 0;
};

std::string message_of(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct Regex::Compiled {
  pcre2_code* code = nullptr;
  pcre2_match_data* match = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;

  Compiled() = default;
  Compiled(const Compiled&) = delete;
  Compiled& operator=(const Compiled&) = delete;
  ~Compiled() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(match);
    pcre2_code_free(code);
  }
};

Regex::Regex(const std::string& pattern, const std::string& origin)
    : compiled_(std::make_unique<Compiled>()) {
  const std::string translated = Translation(pattern, origin).run();
  int error = 0;
  PCRE2_SIZE position = 0;
  compiled_->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &position, nullptr);
  if (compiled_->code == nullptr) {
    throw DataError(origin + ": pattern " + pattern + ": " + message_of(error));
  }
  // Without a JIT (a hardened kernel) the interpreter gives the same matches, slower.
  pcre2_jit_compile(compiled_->code, PCRE2_JIT_COMPLETE);
  compiled_->match = pcre2_match_data_create_from_pattern(compiled_->code, nullptr);
  compiled_->context = pcre2_match_context_create(nullptr);
  compiled_->stack = pcre2_jit_stack_create(32 << 10, 64 << 20, nullptr);
  pcre2_jit_stack_assign(compiled_->context, nullptr, compiled_->stack);
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;

std::string Regex::literal(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (std::ispunct(static_cast<unsigned char>(c)) != 0) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

Regex::Match Regex::find(std::string_view text, size_t from) const {
  const int found =
      pcre2_match(compiled_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                  PCRE2_NO_UTF_CHECK, compiled_->match, compiled_->context);
  if (found == PCRE2_ERROR_NOMATCH) return {text.size(), text.size()};
  if (found < 0)
    throw DataError("a text is too much for a tokenizer's pattern: " + message_of(found));
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(compiled_->match);
  return {bounds[0], bounds[1]};
}

}  // namespace switchyard
