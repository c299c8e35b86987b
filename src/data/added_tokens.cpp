#include "data/added_tokens.h"

#include <algorithm>

#include "base/utf8.h"

namespace switchyard {

void AddedTokens::add(AddedToken token) {
  if (token.content.empty()) return;
  tokens_.push_back(std::move(token));
  std::stable_sort(tokens_.begin(), tokens_.end(), [](const AddedToken& a, const AddedToken& b) {
    return a.content.size() > b.content.size();
  });
  for (auto& bucket : by_first_byte_) bucket.clear();
  for (size_t i = 0; i < tokens_.size(); ++i) {
    by_first_byte_[static_cast<unsigned char>(tokens_[i].content[0])].push_back(i);
  }
}

const AddedToken* AddedTokens::token_at(std::string_view text, size_t at) const {
  for (const size_t i : by_first_byte_[static_cast<unsigned char>(text[at])]) {
    const AddedToken& token = tokens_[i];
    if (text.compare(at, token.content.size(), token.content) == 0) return &token;
  }
  return nullptr;
}

void AddedTokens::split(std::string_view text, const std::function<void(std::string_view)>& on_text,
                        const std::function<void(int32_t)>& on_token) const {
  size_t done = 0;  // everything before was handed on
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token = token_at(text, at);
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + token->content.size();
    at = end;
    if (token->lstrip) begin = std::max(begin - white_space_at_end(text.substr(0, begin)), done);
    if (token->rstrip) end += white_space_at_start(text.substr(end));
    if (done < begin) on_text(text.substr(done, begin - done));
    on_token(token->id);
    done = end;
  }
  if (done < text.size()) on_text(text.substr(done));
}

}  // namespace switchyard
