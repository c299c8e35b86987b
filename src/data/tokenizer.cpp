#include "data/tokenizer.h"

#include <filesystem>
#include <optional>

#include "base/checksum.h"
#include "base/error.h"
#include "base/file.h"
#include "data/bpe_tokenizer.h"
#include "data/byte_tokenizer.h"
#include "data/tiktoken_tokenizer.h"

namespace switchyard {
namespace {

using Kind = TokenizerSpec::Kind;

bool starts_with(const std::string& text, std::string_view start) {
  return text.compare(0, start.size(), start) == 0;
}

std::string prefix_of(Kind kind) { return kind == Kind::kHuggingFace ? "hf:" : "tiktoken:"; }

std::unique_ptr<Tokenizer> load_parsed(const TokenizerSpec& spec, std::optional<int32_t> eos) {
  switch (spec.kind) {
    case Kind::kHuggingFace:
      return std::make_unique<BpeTokenizer>(spec.path, eos);
    case Kind::kTiktoken:
      return std::make_unique<TiktokenTokenizer>(spec.path);
    case Kind::kBytes:
      break;
  }
  return std::make_unique<ByteTokenizer>();
}

TokenizerSpec spec_of_meta(const std::string& dir, const DatasetMeta& meta) {
  try {
    return parse_tokenizer_spec(meta.tokenizer);
  } catch (const ConfigError& error) {
    throw DataError(dir + "/meta.json: " + error.what());
  }
}

}  // namespace

void Tokenizer::encode(std::string_view text, std::vector<int32_t>& out) const {
  encode(text,
         [&out](std::span<const int32_t> ids) { out.insert(out.end(), ids.begin(), ids.end()); });
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> out;
  encode(text, out);
  return out;
}

TokenizerSpec parse_tokenizer_spec(const std::string& spec) {
  if (spec == "bytes") return {Kind::kBytes, ""};
  for (const Kind kind : {Kind::kHuggingFace, Kind::kTiktoken}) {
    const std::string prefix = prefix_of(kind);
    if (!starts_with(spec, prefix) || spec.size() == prefix.size()) continue;
    std::string path = spec.substr(prefix.size());
    if (kind == Kind::kHuggingFace && std::filesystem::is_directory(path))
      path += "/tokenizer.json";
    return {kind, path};
  }
  if (starts_with(spec, "sp:")) {
    throw ConfigError("tokenizer " + spec +
                      ": SentencePiece models are not built in; convert it to a byte-level BPE "
                      "tokenizer.json and use hf:tokenizer.json, or train one with "
                      "scripts/train_tokenizer.py");
  }
  throw ConfigError("tokenizer \"" + spec + "\": write bytes, hf:TOKENIZER.JSON or tiktoken:FILE");
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& spec) {
  return load_parsed(parse_tokenizer_spec(spec), std::nullopt);
}

std::unique_ptr<Tokenizer> load_dataset_tokenizer(const std::string& dir, const DatasetMeta& meta) {
  TokenizerSpec spec = spec_of_meta(dir, meta);
  if (spec.kind == Kind::kBytes) return std::make_unique<ByteTokenizer>();
  spec.path = (std::filesystem::path(dir) / spec.path).string();
  if (!meta.tokenizer_digest.empty() &&
      digest_text(xxh3_of_file(spec.path)) != meta.tokenizer_digest) {
    throw DataError(spec.path + ": not the tokenizer that made the tokens of " + dir +
                    " (its digest differs from the one in meta.json)");
  }
  return load_parsed(spec, static_cast<int32_t>(meta.eos));
}

std::vector<std::string> dataset_tokenizer_files(const std::string& dir, const DatasetMeta& meta) {
  try {
    const std::string path = spec_of_meta(dir, meta).path;
    const bool inside = !path.empty() && std::filesystem::path(path).filename() == path;
    if (inside && std::filesystem::exists(dir + "/" + path)) return {path};
  } catch (const DataError&) {  // a tokenizer of someone else's
  }
  return {};
}

void adopt_tokenizer(const std::string& spec, const Tokenizer& tokenizer, const std::string& dir,
                     DatasetMeta& meta) {
  meta.vocab_size = tokenizer.vocab_size();
  meta.eos = tokenizer.eos();
  const TokenizerSpec parsed = parse_tokenizer_spec(spec);
  if (parsed.kind == Kind::kBytes) {
    meta.tokenizer = "bytes";
    return;
  }
  const std::filesystem::path source(parsed.path);
  const bool hugging_face = parsed.kind == Kind::kHuggingFace;
  const std::string name = hugging_face ? "tokenizer.json" : source.filename().string();
  write_file_atomically(dir + "/" + name, read_file(parsed.path));
  const std::string config = (source.parent_path() / "tokenizer_config.json").string();
  if (hugging_face && std::filesystem::exists(config)) {
    write_file_atomically(dir + "/tokenizer_config.json", read_file(config));
  }
  meta.tokenizer = prefix_of(parsed.kind) + name;
  meta.tokenizer_digest = digest_text(xxh3_of_file(parsed.path));
}

}  // namespace switchyard
