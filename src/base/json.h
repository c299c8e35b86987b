#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace switchyard {

/// What a JSON text may cost. Checked before or while it is parsed.
struct JsonLimits {
  size_t bytes = size_t{256} << 20;
  int depth = 64;  // of nested objects and arrays
};

/// Strict JSON: a key given twice, a text that is too long or too deep, invalid
/// UTF-8 and anything behind the value are errors. Throws DataError, with
/// `origin` (a path) in front and the line and column where there is one.
nlohmann::json parse_json(std::string_view text, const std::string& origin, JsonLimits limits = {});

/// read_file and parse_json.
nlohmann::json read_json_file(const std::string& path, JsonLimits limits = {});

/// The shortest decimal that reads back as the same bits; always with a point or
/// an exponent, so that -0.0 and 3.0 stay floating-point numbers. JSON has no
/// infinities: "null" for whatever is not finite.
std::string number_text(double value);

}  // namespace switchyard
