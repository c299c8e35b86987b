#include "data/bpe_tokenizer.h"

#include <filesystem>

#include "base/error.h"
#include "base/json.h"
#include "base/utf8.h"
#include "data/byte_level.h"
#include "data/nfc.h"

namespace switchyard {
namespace {

constexpr size_t kFlushTokens = 1 << 14;
constexpr int64_t kMaxId = 1 << 24;

// In the order of preference; the first is what scripts/train_tokenizer.py writes.
constexpr const char* kUsualEos[] = {
    "<|endoftext|>",         "<|end_of_text|>", "</s>",       "<eos>",  "<|end▁of▁sentence|>",
    "<｜end▁of▁sentence｜>", "<|im_end|>",      "<|eot_id|>", "<|end|>"};

bool flag(const nlohmann::json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_boolean() && found->get<bool>();
}

/// Null, absent, and empty are all "no".
bool is_set(const nlohmann::json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return false;
  if (found->is_string()) return !found->get_ref<const std::string&>().empty();
  if (found->is_number()) return found->get<double>() != 0;
  return !found->is_boolean() || found->get<bool>();
}

int32_t checked_id(const nlohmann::json& value, const std::string& what) {
  const int64_t id = JsonFields::as_count(value, what);
  if (id > kMaxId) throw DataError(what + " is too large");
  return static_cast<int32_t>(id);
}

/// The two halves of a merge: ["a", "b"] or "a b".
std::pair<std::string, std::string> halves(const nlohmann::json& merge, const std::string& where) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  if (merge.is_string()) {
    const std::string& text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  }
  throw DataError(where + " is neither [\"a\", \"b\"] nor \"a b\"");
}

/// `eos_token` of a tokenizer_config.json: a string, or an object with `content`.
std::string configured_eos(const std::string& path) {
  if (!std::filesystem::exists(path)) return "";
  const nlohmann::json config = read_json_file(path);
  const auto eos = config.find("eos_token");
  if (eos == config.end()) return "";
  if (eos->is_string()) return eos->get<std::string>();
  return eos->is_object() ? eos->value("content", "") : "";
}

}  // namespace

BpeTokenizer::BpeTokenizer(const std::string& path, std::optional<int32_t> eos) : path_(path) {
  const nlohmann::json root = read_json_file(path);
  JsonFields fields(root, path);
  read_model(fields.object("model"));
  read_normalizer(root.value("normalizer", nlohmann::json()));
  pre_tokenizer_.push_back(
      PreTokenizer::from_json(root.value("pre_tokenizer", nlohmann::json()), path));
  if (root.contains("added_tokens")) read_added_tokens(fields.array("added_tokens"));
  if (eos) {
    eos_ = *eos;
  } else {
    find_eos(root);
  }
}

void BpeTokenizer::set_bytes(int32_t id, std::string bytes) {
  if (static_cast<size_t>(id) >= bytes_of_id_.size()) bytes_of_id_.resize(id + 1);
  bytes_of_id_[id] = std::move(bytes);
}

void BpeTokenizer::read_model(const nlohmann::json& model) {
  JsonFields fields(model, path_ + ": model");
  if (model.contains("type") && fields.text("type") != "BPE") {
    throw DataError(path_ + ": model " + fields.text("type") +
                    " is not built in; known is BPE (byte-level)");
  }
  for (const char* option :
       {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}) {
    if (is_set(model, option)) {
      throw DataError(path_ + ": model option " + option + " is not built in");
    }
  }
  const Vocabulary vocabulary = read_vocabulary(fields.object("vocab"));
  read_merges(fields.array("merges"), vocabulary);
  for (int byte = 0; byte < 256; ++byte) {
    const auto id = vocabulary.find(byte_level_character(static_cast<unsigned char>(byte)));
    if (id != vocabulary.end()) bpe_.set_byte(static_cast<uint8_t>(byte), id->second);
  }
  if (is_set(model, "unk_token")) {
    const auto unknown = vocabulary.find(fields.text("unk_token"));
    if (unknown == vocabulary.end())
      throw DataError(path_ + ": model unk_token is not in its vocab");
    bpe_.set_unknown(unknown->second,
                     flag(model, "fuse_unk") ? Bpe::Unknown::kFused : Bpe::Unknown::kEach);
  }
  if (flag(model, "ignore_merges")) {
    for (const auto& [token, id] : vocabulary) {
      if (auto bytes = bytes_of_byte_level(token)) bpe_.add_whole_word(std::move(*bytes), id);
    }
  }
}

BpeTokenizer::Vocabulary BpeTokenizer::read_vocabulary(const nlohmann::json& vocab) {
  Vocabulary vocabulary;
  vocabulary.reserve(vocab.size());
  for (const auto& [token, value] : vocab.items()) {
    const int32_t id = checked_id(value, path_ + ": model.vocab: id of \"" + token + "\"");
    vocabulary.emplace(token, id);
    set_bytes(id, bytes_of_byte_level(token).value_or(token));
  }
  return vocabulary;
}

void BpeTokenizer::read_merges(const nlohmann::json& merges, const Vocabulary& vocabulary) {
  int32_t rank = 0;
  for (const nlohmann::json& merge : merges) {
    const std::string where = path_ + ": model.merges[" + std::to_string(rank) + "]";
    const auto [left, right] = halves(merge, where);
    const auto a = vocabulary.find(left), b = vocabulary.find(right),
               both = vocabulary.find(left + right);
    if (a == vocabulary.end() || b == vocabulary.end() || both == vocabulary.end()) {
      throw DataError(where + ": \"" + left + "\", \"" + right +
                      "\" or both together are not in the vocab");
    }
    bpe_.add_merge(a->second, b->second, rank++, both->second);
  }
}

void BpeTokenizer::read_normalizer(const nlohmann::json& normalizer) {
  if (normalizer.is_null()) return;
  JsonFields fields(normalizer, path_ + ": normalizer");
  const std::string& type = fields.text("type");
  if (type == "Sequence") {
    for (const nlohmann::json& part : fields.array("normalizers")) read_normalizer(part);
  } else if (type == "NFC") {
    nfc_ = true;
  } else {
    throw DataError(path_ + ": normalizer " + type + " is not built in; known are none and NFC");
  }
}

void BpeTokenizer::read_added_tokens(const nlohmann::json& added) {
  for (size_t i = 0; i < added.size(); ++i) {
    JsonFields fields(added[i], path_ + ": added_tokens[" + std::to_string(i) + "]");
    AddedToken token;
    token.content = fields.text("content");
    token.id =
        checked_id(fields.take("id"), path_ + ": id of added token \"" + token.content + "\"");
    if (flag(added[i], "single_word")) {
      throw DataError(path_ + ": added token \"" + token.content +
                      "\": single_word is not built in");
    }
    token.lstrip = flag(added[i], "lstrip");
    token.rstrip = flag(added[i], "rstrip");
    token.special = flag(added[i], "special");
    set_bytes(token.id,
              token.special ? "" : bytes_of_byte_level(token.content).value_or(token.content));
    if (!flag(added[i], "normalized")) {
      raw_tokens_.add(token);
      continue;
    }
    std::string storage;
    token.content = normalize(token.content, storage);
    normalized_tokens_.add(token);
  }
}

void BpeTokenizer::find_eos(const nlohmann::json& root) {
  Vocabulary named;
  for (const nlohmann::json& token : root.value("added_tokens", nlohmann::json::array())) {
    named[token["content"].get<std::string>()] = token["id"].get<int32_t>();
  }
  const std::string config =
      (std::filesystem::path(path_).parent_path() / "tokenizer_config.json").string();
  const std::string configured = configured_eos(config);
  if (!configured.empty()) {
    if (!named.contains(configured)) {
      throw DataError(config + ": eos_token \"" + configured + "\" is not an added token of " +
                      path_);
    }
    eos_ = named[configured];
    return;
  }
  for (const char* usual : kUsualEos) {
    if (!named.contains(usual)) continue;
    eos_ = named[usual];
    return;
  }
  throw DataError(path_ + ": has no token that ends a document; name one of its added tokens in " +
                  config + ": {\"eos_token\": \"...\"}");
}

std::string_view BpeTokenizer::normalize(std::string_view text, std::string& storage) const {
  return nfc_ ? to_nfc(text, storage) : text;
}

void BpeTokenizer::encode(std::string_view text, const TokenSink& sink) const {
  if (const auto invalid = first_invalid_utf8(text)) {
    throw DataError("byte " + std::to_string(*invalid) + " of the text is not valid UTF-8");
  }
  std::vector<int32_t> ids;
  const auto flush = [&](size_t above) {
    if (ids.size() <= above) return;
    sink(ids);
    ids.clear();
  };
  const auto on_word = [&](std::string_view word) {
    bpe_.encode(word, ids);
    flush(kFlushTokens);
  };
  const auto on_token = [&](int32_t id) { ids.push_back(id); };
  const auto on_normalized = [&](std::string_view piece) {
    pre_tokenizer_.front().split(piece, on_word);
  };
  std::string storage;
  const auto on_raw = [&](std::string_view piece) {
    normalized_tokens_.split(normalize(piece, storage), on_normalized, on_token);
  };
  raw_tokens_.split(text, on_raw, on_token);
  flush(0);
}

std::string BpeTokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) {
    if (id >= 0 && static_cast<size_t>(id) < bytes_of_id_.size()) text += bytes_of_id_[id];
  }
  return text;
}

}  // namespace switchyard
