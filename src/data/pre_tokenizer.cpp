#include "data/pre_tokenizer.h"

#include "base/error.h"
#include "base/json.h"

namespace switchyard {
namespace {

// GPT-2's, which Hugging Face's ByteLevel has built in.
constexpr const char* kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

bool flag(const nlohmann::json& json, const char* key, bool otherwise) {
  const auto found = json.find(key);
  return found != json.end() && found->is_boolean() ? found->get<bool>() : otherwise;
}

[[noreturn]] void refuse(const std::string& origin, const std::string& what) {
  throw DataError(origin + ": pre_tokenizer " + what +
                  " is not built in; known are ByteLevel, Digits, Split and a Sequence of them "
                  "that ends with ByteLevel");
}

}  // namespace

PreTokenizer::PreTokenizer(const std::string& pattern, const std::string& origin) {
  add_pattern(pattern, Gaps::kKeep, origin);
}

PreTokenizer PreTokenizer::from_json(const nlohmann::json& json, const std::string& origin) {
  PreTokenizer result;
  if (json.is_null()) refuse(origin, "null");
  result.add_json(json, origin);
  if (!result.complete_) refuse(origin, "without ByteLevel");
  return result;
}

void PreTokenizer::add_json(const nlohmann::json& json, const std::string& origin) {
  JsonFields fields(json, origin + ": pre_tokenizer");
  const std::string& type = fields.text("type");
  if (complete_) refuse(origin, type + " after ByteLevel");
  if (type == "Sequence") {
    for (const nlohmann::json& part : fields.array("pretokenizers")) add_json(part, origin);
  } else if (type == "ByteLevel") {
    add_byte_level(json, origin);
  } else if (type == "Digits") {
    add_pattern(flag(json, "individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)", Gaps::kKeep,
                origin);
  } else if (type == "Split") {
    add_split(json, origin);
  } else {
    refuse(origin, type);
  }
}

void PreTokenizer::add_byte_level(const nlohmann::json& json, const std::string& origin) {
  if (flag(json, "add_prefix_space", true)) stages_.emplace_back();
  if (flag(json, "use_regex", true)) add_pattern(kByteLevelPattern, Gaps::kKeep, origin);
  complete_ = true;
}

void PreTokenizer::add_split(const nlohmann::json& json, const std::string& origin) {
  JsonFields fields(json, origin + ": pre_tokenizer Split");
  const nlohmann::json& pattern = fields.object("pattern");
  JsonFields pattern_fields(pattern, origin + ": pre_tokenizer Split pattern");
  const std::string regex = pattern.contains("Regex")
                                ? pattern_fields.text("Regex")
                                : Regex::literal(pattern_fields.text("String"));
  const std::string& behavior = fields.text("behavior");
  if (behavior == "Isolated") {
    add_pattern(regex, Gaps::kKeep, origin);
  } else if (behavior == "Removed" && flag(json, "invert", false)) {
    add_pattern(regex, Gaps::kDrop, origin);
  } else {
    refuse(origin, "Split with behavior " + behavior);
  }
}

void PreTokenizer::add_pattern(const std::string& pattern, Gaps gaps, const std::string& origin) {
  Stage stage;
  stage.regex.emplace_back(pattern, origin);
  stage.gaps = gaps;
  stages_.push_back(std::move(stage));
}

void PreTokenizer::run(size_t index, std::string_view piece, const WordSink& sink) const {
  if (piece.empty()) return;
  if (index == stages_.size()) {
    sink(piece);
    return;
  }
  const Stage& stage = stages_[index];
  if (stage.regex.empty()) {
    if (piece.front() == ' ') {
      run(index + 1, piece, sink);
    } else {
      run(index + 1, " " + std::string(piece), sink);
    }
    return;
  }
  for (size_t at = 0, search = 0; at < piece.size();) {
    const Regex::Match match = stage.regex.front().find(piece, search);
    if (match.begin == match.end && match.end < piece.size()) {
      search = match.end + 1;
      while (search < piece.size() && (static_cast<unsigned char>(piece[search]) & 0xC0) == 0x80)
        ++search;
      continue;
    }
    if (stage.gaps == Gaps::kKeep) run(index + 1, piece.substr(at, match.begin - at), sink);
    run(index + 1, piece.substr(match.begin, match.end - match.begin), sink);
    at = search = match.end;
  }
}

}  // namespace switchyard
