#include "report/page.h"

#include <string_view>

#include "report/page_parts.h"

namespace switchyard {
namespace {

/// Replaces each {{name}} of the template by the part of that name.
std::string fill(std::string_view text, const std::string& data, const std::string& connect) {
  std::string page;
  while (true) {
    const size_t open = text.find("{{");
    const size_t close = text.find("}}", open);
    if (open == std::string_view::npos || close == std::string_view::npos) break;
    const std::string_view name = text.substr(open + 2, close - open - 2);
    page += text.substr(0, open);
    if (name == "data") {
      page += data;
    } else if (name == "connect") {
      page += connect;
    } else {
      page += page_part(name);
    }
    text.remove_prefix(close + 2);
  }
  page += text;
  return page;
}

}  // namespace

std::string script_safe_json(const nlohmann::ordered_json& value) {
  std::string text = value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  std::string safe;
  safe.reserve(text.size());
  for (const char c : text) {
    if (c == '<') {
      safe += "\\u003c";  // a JSON text has it inside strings alone
    } else {
      safe += c;
    }
  }
  return safe;
}

std::string report_page(const nlohmann::ordered_json& model, PageKind kind) {
  return fill(page_part("report.html"), script_safe_json(model),
              kind == PageKind::kLive ? "'self'" : "'none'");
}

}  // namespace switchyard
