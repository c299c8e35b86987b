#pragma once

#include <string>
#include <string_view>

namespace switchyard {

/// The words with a separator between them.
template <typename Words>
std::string join(const Words& words, std::string_view separator) {
  std::string text;
  bool first = true;
  for (const auto& word : words) {
    if (!first) text += separator;
    first = false;
    text += word;
  }
  return text;
}

inline std::string bracket(char open, const std::string& text, char close) {
  std::string result(1, open);
  result += text;
  result += close;
  return result;
}

/// "model" and "hidden_size" are "model.hidden_size"; at the top the key alone.
inline std::string join_key(const std::string& section, std::string_view key) {
  std::string path = section;
  if (!path.empty()) path += '.';
  path += key;
  return path;
}

/// The key of item i of `count`: "moe.balance[1]"; of an only item, the list's.
inline std::string item_key(const std::string& list, size_t i, size_t count) {
  return count == 1 ? list : list + bracket('[', std::to_string(i), ']');
}

}  // namespace switchyard
