#include "metrics/tensorboard.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kPrefix = "events.out.tfevents.";

std::array<uint32_t, 256> crc32c_table() {
  constexpr uint32_t kPolynomial = 0x82f63b78;  // Castagnoli's, bits reversed
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    table[byte] = crc;
  }
  return table;
}

/// TFRecord's: a CRC of data that holds CRCs is weak, so they are stored masked.
uint32_t masked_crc(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return std::rotr(crc, 15) + 0xa282ead8;
}

template <typename Number>
std::string little_endian(Number value) {
  static_assert(std::endian::native == std::endian::little);
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

/// A protobuf message in the making: its fields one after another, each a tag (number and
/// wire type) and a value.
class Message {
 public:
  Message& integer(int field, int64_t value) {
    tag(field, 0);
    varint(static_cast<uint64_t>(value));
    return *this;
  }
  Message& number(int field, double value) {
    tag(field, 1);
    bytes_ += little_endian(value);
    return *this;
  }
  Message& number(int field, float value) {
    tag(field, 5);
    bytes_ += little_endian(value);
    return *this;
  }
  Message& text(int field, std::string_view value) {
    tag(field, 2);
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(int field, const Message& value) { return text(field, value.bytes_); }
  template <typename Number>
  Message& packed_doubles(int field, const std::vector<Number>& values) {
    std::string packed;
    for (const Number value : values) packed += little_endian(static_cast<double>(value));
    return text(field, packed);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void tag(int field, int wire_type) { varint(static_cast<uint64_t>(field << 3 | wire_type)); }
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

/// Event{1: wall_time, 2: step}.
Message event_at(int64_t step) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  Message event;
  event.number(1, std::chrono::duration<double>(now).count()).integer(2, step);
  return event;
}

/// Readers go through the files of a folder by name: this one's time is later than theirs.
std::string new_file(const std::string& folder) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  int64_t seconds = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  for (const std::string& name : list_folder(folder)) {
    if (!name.starts_with(kPrefix)) continue;
    const int64_t other = std::strtoll(name.c_str() + kPrefix.size(), nullptr, 10);
    seconds = std::max(seconds, other + 1);
  }
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  std::array<char, 16> digits{};
  std::snprintf(digits.data(), digits.size(), "%010lld", static_cast<long long>(seconds));
  return folder + "/" + std::string(kPrefix) + digits.data() + "." + host.data() + "." +
         std::to_string(getpid()) + ".0";
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static const std::array<uint32_t, 256> kTable = crc32c_table();
  uint32_t crc = ~uint32_t{0};
  for (const char byte : bytes)
    crc = (crc >> 8) ^ kTable[(crc ^ static_cast<uint8_t>(byte)) & 0xff];
  return ~crc;
}

TensorBoardWriter::TensorBoardWriter(const std::string& folder, int64_t last_step)
    : file_(new_file(folder), OpenMode::kCreateNew) {
  write(event_at(0).text(3, "brain.Event:2").bytes());  // file_version
  forget_after(last_step);
}

void TensorBoardWriter::forget_after(int64_t last_step) {
  // session_log{1: status START}: what a reader has of this step and later ones is void.
  write(event_at(last_step + 1).message(7, Message().integer(1, 1)).bytes());
}

void TensorBoardWriter::add_scalars(const Json& record, const std::string& prefix) {
  Message summary;
  for (const auto& [key, value] : record.items()) {
    if (!value.is_number() || key == "step" || !std::isfinite(value.get<double>())) continue;
    // 1: value{1: tag, 2: simple_value}
    summary.message(1, Message().text(1, prefix + key).number(2, value.get<float>()));
  }
  write(event_at(record.at("step")).message(5, summary).bytes());
}

void TensorBoardWriter::add_histogram(int64_t step, const std::string& tag,
                                      const Histogram& histogram) {
  if (histogram.counts.empty()) return;
  double n = 0, sum = 0, squares = 0;
  for (size_t i = 0; i < histogram.counts.size(); ++i) {
    const double middle = (histogram.edges[i] + histogram.edges[i + 1]) / 2;
    const auto count = static_cast<double>(histogram.counts[i]);
    n += count;
    sum += count * middle;
    squares += count * middle * middle;
  }
  const std::vector<double> limits(histogram.edges.begin() + 1, histogram.edges.end());
  Message histo;  // 1: min, 2: max, 3: num, 4: sum, 5: sum_squares, 6: bucket_limit, 7: bucket
  histo.number(1, histogram.edges.front()).number(2, histogram.edges.back());
  histo.number(3, n).number(4, sum).number(5, squares);
  histo.packed_doubles(6, limits).packed_doubles(7, histogram.counts);
  const Message value = Message().text(1, tag).message(5, histo);  // 1: tag, 5: histo
  write(event_at(step).message(5, Message().message(1, value)).bytes());
}

void TensorBoardWriter::write(std::string_view event) {
  const std::string length = little_endian(static_cast<uint64_t>(event.size()));
  file_.append(length + little_endian(masked_crc(length)) + std::string(event) +
               little_endian(masked_crc(event)));
  file_.flush();
}

}  // namespace switchyard
