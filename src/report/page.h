#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace switchyard {

/// A page of its own draws what it was given, a live one asks for /data.json every few seconds.
enum class PageKind { kStandalone, kLive };

/// One HTML file that needs nothing else: markup, style, D3, our scripts and the model as JSON. The
/// page forbids the browser to load anything (Content-Security-Policy), except /data.json when
/// live.
std::string report_page(const nlohmann::ordered_json& model, PageKind kind);

/// JSON as it may stand in a <script> element: whatever a token, a name or a path says, it cannot
/// end the element. Bytes that are no UTF-8 become U+FFFD.
std::string script_safe_json(const nlohmann::ordered_json& value);

}  // namespace switchyard
