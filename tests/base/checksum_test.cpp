#include "base/checksum.h"

#include <gtest/gtest.h>

#include <string>

#include "base/file.h"
#include "base/scratch_folder.h"

namespace switchyard {
namespace {

TEST(ChecksumTest, KnownDigests) {
  EXPECT_EQ(xxh3("", 0), 0x2d06800538d394c2u);  // XXH3_64bits of nothing, seed 0
  EXPECT_EQ(xxh3("abc", 3), 0x78af5f94892f3950u);
}

TEST(ChecksumTest, PiecesGiveTheDigestOfTheWhole) {
  std::string bytes;
  for (int i = 0; i < 5000; ++i) bytes += static_cast<char>(i * 7);
  Xxh3Stream stream;
  for (size_t at = 0; at < bytes.size(); at += 333) {
    stream.update(bytes.data() + at, std::min<size_t>(333, bytes.size() - at));
  }
  EXPECT_EQ(stream.digest(), xxh3(bytes.data(), bytes.size()));
}

TEST(ChecksumTest, OfAFile) {
  const ScratchFolder folder;
  const std::string bytes((1 << 20) + 5, 'x');
  write_file_atomically(folder / "a", bytes);
  EXPECT_EQ(xxh3_of_file(folder / "a"), xxh3(bytes.data(), bytes.size()));
}

TEST(ChecksumTest, TextIsStrict) {
  EXPECT_EQ(digest_text(0x0123456789abcdefu), "0123456789abcdef");
  EXPECT_EQ(parse_digest("0123456789abcdef"), 0x0123456789abcdefu);
  for (const char* bad : {"", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF",
                          "0x23456789abcdef", "+123456789abcdef", "0123456789abcdeg"}) {
    EXPECT_FALSE(parse_digest(bad)) << bad;
  }
}

}  // namespace
}  // namespace switchyard
