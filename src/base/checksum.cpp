#include "base/checksum.h"

#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <new>
#include <span>
#include <vector>

#include "base/file.h"

namespace switchyard {

uint64_t xxh3(const void* data, size_t bytes) { return XXH3_64bits(data, bytes); }

struct Xxh3Stream::State {
  State() : xxh(XXH3_createState()) {
    if (xxh == nullptr) throw std::bad_alloc();
    XXH3_64bits_reset(xxh);
  }
  ~State() { XXH3_freeState(xxh); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  XXH3_state_t* xxh;
};

Xxh3Stream::Xxh3Stream() : state_(std::make_unique<State>()) {}
Xxh3Stream::~Xxh3Stream() = default;

void Xxh3Stream::update(const void* data, size_t bytes) {
  if (bytes > 0) XXH3_64bits_update(state_->xxh, data, bytes);
}

uint64_t Xxh3Stream::digest() const { return XXH3_64bits_digest(state_->xxh); }

uint64_t xxh3_of_file(const std::string& path) {
  const FileReader file(path);
  std::vector<std::byte> piece(size_t{1} << 20);
  Xxh3Stream stream;
  for (uint64_t at = 0; at < file.size();) {
    const size_t bytes = std::min<uint64_t>(piece.size(), file.size() - at);
    file.pread_exact(at, std::span(piece).first(bytes));
    stream.update(piece.data(), bytes);
    at += bytes;
  }
  return stream.digest();
}

std::string digest_text(uint64_t digest) {
  std::string text(16, '0');
  for (size_t i = 16; i-- > 0; digest >>= 4) text[i] = "0123456789abcdef"[digest & 15];
  return text;
}

std::optional<uint64_t> parse_digest(std::string_view text) {
  uint64_t digest = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), digest, 16);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (digest_text(digest) != text) return std::nullopt;
  return digest;
}

}  // namespace switchyard
