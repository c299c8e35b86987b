#include "report/metrics_tail.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>

#include "base/error.h"
#include "base/file.h"

namespace switchyard {
namespace {

constexpr uint64_t kPieceBytes = uint64_t{8} << 20;
constexpr size_t kMaxLineBytes = size_t{64} << 20;

/// Takes the parser's events of one flat object, without building a tree: the lists of a long run
/// of many experts are gigabytes.
class RecordBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit RecordBuilder(MetricsRecord& record) : record_(record) {}

  bool null() override { return take(std::numeric_limits<double>::quiet_NaN()); }
  bool boolean(bool) override { return depth_ == 1; }
  bool number_integer(number_integer_t value) override { return whole(value); }
  bool number_unsigned(number_unsigned_t value) override {
    return value <= static_cast<uint64_t>(INT64_MAX) && whole(static_cast<int64_t>(value));
  }
  bool number_float(number_float_t value, const string_t&) override {
    return key_ != "step" && take(value);
  }
  bool string(string_t& value) override {
    if (key_ == "step") return false;
    if (key_ == "eval") record_.split = value;
    return depth_ == 1;
  }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return ++depth_ == 1; }
  bool end_object() override { return record_.step >= 0; }
  bool key(string_t& key) override {
    key_ = key;
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_ != 1 || key_ == "step") return false;
    ++depth_;
    record_.lists.emplace_back(key_, std::vector<double>());
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override {
    return false;
  }

 private:
  bool whole(int64_t value) {
    if (key_ == "step") {
      record_.step = value;
      return depth_ == 1;
    }
    return take(static_cast<double>(value));
  }

  bool take(double value) {
    if (depth_ == 1) {
      record_.numbers.emplace_back(key_, value);
    } else if (depth_ == 2) {
      record_.lists.back().second.push_back(value);
    }
    return depth_ > 0;
  }

  MetricsRecord& record_;
  std::string key_;
  int depth_ = 0;
};

std::string read_at(const FileReader& file, uint64_t offset, uint64_t bytes) {
  std::string text(bytes, '\0');
  file.pread_exact(offset, std::as_writable_bytes(std::span(text.data(), text.size())));
  return text;
}

}  // namespace

bool parse_metrics_record(std::string_view line, MetricsRecord& record) {
  record.step = -1;
  record.split.clear();
  record.numbers.clear();
  record.lists.clear();
  RecordBuilder builder(record);
  return nlohmann::json::sax_parse(line.begin(), line.end(), &builder);
}

bool MetricsTail::is_same_file() const {
  if (lines_end_ == 0) return true;
  if (!path_exists(path_)) return false;
  const FileReader file(path_);
  return file.size() >= lines_end_ &&
         read_at(file, lines_end_ - last_line_.size(), last_line_.size()) == last_line_;
}

void MetricsTail::restart() {
  offset_ = lines_end_ = 0;
  unreadable_ = 0;
  piece_.clear();
  last_line_.clear();
}

bool MetricsTail::read_piece() {
  if (!path_exists(path_)) return false;
  const FileReader file(path_);
  if (file.size() <= offset_) return false;
  const uint64_t bytes = std::min(kPieceBytes, file.size() - offset_);
  piece_ += read_at(file, offset_, bytes);
  offset_ += bytes;
  return true;
}

void MetricsTail::keep_behind(size_t begin) {
  if (begin > 0) {
    const size_t newline = begin - 1;
    const size_t before = newline == 0 ? std::string::npos : piece_.rfind('\n', newline - 1);
    const size_t start = before == std::string::npos ? 0 : before + 1;
    last_line_ = piece_.substr(start, begin - start);
    piece_.erase(0, begin);
    lines_end_ = offset_ - piece_.size();
  }
  if (piece_.size() > kMaxLineBytes) {
    throw DataError(path_ + ": a line of more than 64 MiB; this is no metrics.jsonl of a run");
  }
}

}  // namespace switchyard
