#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace switchyard {

/// 64-bit XXH3: the digest of tensors and files. It finds damage; it is no
/// defence against someone who forges a file.
uint64_t xxh3(const void* data, size_t bytes);

/// The same digest of bytes that come in pieces.
class Xxh3Stream {
 public:
  Xxh3Stream();
  ~Xxh3Stream();
  Xxh3Stream(const Xxh3Stream&) = delete;
  Xxh3Stream& operator=(const Xxh3Stream&) = delete;

  void update(const void* data, size_t bytes);
  /// Of everything so far; more may follow.
  uint64_t digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The digest of a whole regular file, read in pieces. Throws DataError.
uint64_t xxh3_of_file(const std::string& path);

/// 16 lower-case hexadecimal digits, as `xxhsum -H3` prints them.
std::string digest_text(uint64_t digest);

/// The inverse; nothing unless `text` is exactly what digest_text writes.
std::optional<uint64_t> parse_digest(std::string_view text);

}  // namespace switchyard
