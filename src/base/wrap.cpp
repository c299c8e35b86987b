#include "base/wrap.h"

#include <algorithm>

namespace switchyard {

std::string wrap(std::string_view text, size_t indent, size_t width) {
  std::string result;
  std::string line(indent, ' ');
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    if (line.size() > indent && line.size() + 1 + end > width) {
      result += line + "\n";
      line.resize(indent);
    }
    if (line.size() > indent) line += ' ';
    line += text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return result + line + "\n";
}

}  // namespace switchyard
