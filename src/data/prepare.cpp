#include "data/prepare.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "data/token_shard.h"
#include "data/tokenizer.h"

namespace switchyard {
namespace {

/// A folder inside `out` that is gone again, with `out` if that is new too, unless
/// its files were published.
class Workshop {
 public:
  explicit Workshop(const std::string& out) : out_(out), made_out_(!std::filesystem::exists(out)) {
    make_folders(out_);
    path_ = out_ + "/.prepare-" + std::to_string(getpid());
    remove_tree(path_);
    make_folder(path_);
  }
  Workshop(const Workshop&) = delete;
  Workshop& operator=(const Workshop&) = delete;
  ~Workshop() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
    if (made_out_) std::filesystem::remove(out_, ignored);  // only while it is empty
  }

  const std::string& path() const { return path_; }

  /// The old meta.json goes first and the new one comes last: a folder with a
  /// meta.json is whole.
  void publish() {
    for (const char* old : {"meta.json", "val.bin", "val.idx"}) remove_tree(out_ + "/" + old);
    for (const std::string& name : list_folder(path_)) {
      if (name != "meta.json") rename_path(path_ + "/" + name, out_ + "/" + name);
    }
    sync_folder(out_);
    rename_path(path_ + "/meta.json", out_ + "/meta.json");
    sync_folder(out_);
  }

 private:
  std::string out_;
  bool made_out_;
  std::string path_;
};

void check(const PrepareOptions& options) {
  if (options.text.empty() && options.jsonl.empty()) {
    throw ConfigError("prepare: nothing to read; give --text FILE... or --jsonl FILE...");
  }
  if (options.out.empty()) throw ConfigError("prepare: --out DIR is missing");
  if (!(options.val_fraction >= 0 && options.val_fraction < 1)) {
    throw ConfigError("prepare: --val-fraction must be at least 0 and below 1");
  }
}

/// Takes documents one by one; knows the text bytes of each.
class DocumentStream {
 public:
  DocumentStream(const Tokenizer& tokenizer, const std::string& prefix)
      : tokenizer_(tokenizer), writer_(prefix, token_type_for(tokenizer.vocab_size())) {}

  void add(std::string_view text, const std::string& origin) {
    if (tokenizer_.reads_utf8()) {
      if (const auto invalid = first_invalid_utf8(text)) {
        throw DataError(origin + ":" + std::to_string(line_of(text, *invalid)) + ": byte " +
                        std::to_string(*invalid) +
                        " is not valid UTF-8; convert it, as with iconv -t utf-8");
      }
    }
    tokenizer_.encode(text, [this](std::span<const int32_t> ids) { writer_.append(ids); });
    const int32_t eos = tokenizer_.eos();
    writer_.append({&eos, 1});
    writer_.end_document();
    bytes_.push_back(static_cast<int64_t>(text.size()));
  }

  TokenShardWriter& writer() { return writer_; }
  const std::vector<int64_t>& bytes() const { return bytes_; }

 private:
  const Tokenizer& tokenizer_;
  TokenShardWriter writer_;
  std::vector<int64_t> bytes_;
};

void add_text_file(const std::string& path, DocumentStream& stream) {
  const MappedFile file(path);
  if (file.size() == 0) throw DataError(path + ": is empty");
  stream.add(file.text(), path);
}

std::string document_of_line(std::string_view line, const std::string& origin,
                             const std::string& field) {
  const nlohmann::json object = parse_json(line, origin);
  if (object.is_object() && !object.contains(field)) {
    throw DataError(origin + ": \"" + field + "\" is missing; --field names the text's key");
  }
  return JsonFields(object, origin).text(field);
}

/// Returns the number of lines whose text was empty.
int64_t add_jsonl_file(const std::string& path, const std::string& field, DocumentStream& stream) {
  const MappedFile file(path);
  const std::string_view text = file.text();
  const int64_t before = stream.writer().num_documents();
  int64_t empty = 0, number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string origin = path + ":" + std::to_string(number);
    const std::string document = document_of_line(line, origin, field);
    if (document.empty()) {
      ++empty;
    } else {
      stream.add(document, origin);
    }
  }
  if (stream.writer().num_documents() == before) throw DataError(path + ": holds no document");
  return empty;
}

/// Text bytes that the first `tokens` tokens of a shard stand for.
int64_t decoded_bytes(const Tokenizer& tokenizer, const TokenShard& shard, int64_t tokens) {
  constexpr int64_t kBlock = 1 << 16;
  std::vector<int64_t> block(kBlock);
  int64_t bytes = 0;
  for (int64_t at = 0; at < tokens; at += kBlock) {
    const int64_t count = std::min(kBlock, tokens - at);
    shard.read(at, count, block.data());
    const std::vector<int32_t> ids(block.begin(), block.begin() + count);
    bytes += static_cast<int64_t>(tokenizer.decode(ids).size());
  }
  return bytes;
}

int64_t sum(std::span<const int64_t> values) {
  int64_t total = 0;
  for (const int64_t value : values) total += value;
  return total;
}

/// Ends the stream as dir/train and dir/val and notes what each holds.
void split_stream(DocumentStream& stream, const Tokenizer& tokenizer, double val_fraction,
                  const std::string& dir, DatasetMeta& meta) {
  TokenShardWriter& writer = stream.writer();
  const int64_t total = writer.num_tokens(), total_bytes = sum(stream.bytes());
  meta.documents = writer.num_documents();
  if (val_fraction == 0) {
    writer.finish();
    meta.tokens["train"] = total;
    meta.bytes["train"] = total_bytes;
    return;
  }
  const int64_t wanted = std::llround(static_cast<double>(total) * val_fraction);
  const int64_t val_tokens = std::clamp<int64_t>(wanted, 1, total - 1);
  const auto tail = writer.finish_with_tail(dir + "/val", val_tokens);
  const int64_t whole = tail.documents - (tail.cut_tokens > 0 ? 1 : 0);
  int64_t val_bytes = sum(std::span(stream.bytes()).last(whole));
  if (tail.cut_tokens > 0) {
    val_bytes += decoded_bytes(tokenizer, TokenShard(dir + "/val"), tail.cut_tokens);
  }
  meta.tokens = {{"train", total - val_tokens}, {"val", val_tokens}};
  meta.bytes = {{"train", total_bytes - val_bytes}, {"val", val_bytes}};
}

std::string source_text(const PrepareOptions& options) {
  std::string source;
  for (const auto* files : {&options.text, &options.jsonl}) {
    for (const std::string& file : *files) {
      if (!source.empty()) source += ", ";
      source += std::filesystem::path(file).filename().string();
    }
  }
  return source;
}

std::string domain_name(const PrepareOptions& options) {
  if (!options.name.empty()) return options.name;
  const std::filesystem::path out(options.out);
  return (out.has_filename() ? out : out.parent_path()).filename().string();
}

}  // namespace

PrepareSummary prepare(const PrepareOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  check(options);
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(options.tokenizer);

  PrepareSummary summary;
  DatasetMeta& meta = summary.meta;
  Workshop workshop(options.out);
  DocumentStream stream(*tokenizer, workshop.path() + "/train");
  for (const std::string& path : options.text) add_text_file(path, stream);
  for (const std::string& path : options.jsonl) {
    summary.empty_documents += add_jsonl_file(path, options.field, stream);
  }
  split_stream(stream, *tokenizer, options.val_fraction, workshop.path(), meta);

  adopt_tokenizer(options.tokenizer, *tokenizer, workshop.path(), meta);
  meta.dtype = token_type_for(meta.vocab_size);
  meta.name = domain_name(options);
  meta.source = source_text(options);
  write_dataset_meta(workshop.path(), meta);
  workshop.publish();
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return summary;
}

}  // namespace switchyard
