// Every kind of damage to a checkpoint that lies on a disk is refused, and told.

#include <gtest/gtest.h>

#include <random>

#include "checkpoint/verify_checkpoint.h"
#include "faults/file_journal.h"
#include "faults/variants.h"

namespace switchyard {
namespace {

/// A saved checkpoint whose files are spoilt and mended in place.
class DamageTest : public testing::Test {
 protected:
  DamageTest() {
    save_variant(folder_.path(), 1, 1, /*world=*/2);
    EXPECT_EQ(describe_newest(folder_.path()), "step 1, variant 1");
  }

  std::string step_dir() const { return folder_ / "step-00000001"; }
  std::string bytes_of(const std::string& name) const { return read_file(step_dir() + "/" + name); }

  /// Puts `bytes` in place of a file's own, `step_dir` must be refused with a message
  /// that names the file and has `part` in it.
  void expect_refused(const std::string& name, const std::string& bytes, const std::string& part) {
    const std::string path = step_dir() + "/" + name;
    const std::string good = bytes_of(name);
    put(path, bytes);
    const std::vector<std::string> problems = verify_checkpoint(step_dir());
    ASSERT_FALSE(problems.empty()) << path << " is damaged and passes";
    EXPECT_NE(problems[0].find(path), std::string::npos) << problems[0];
    EXPECT_NE(problems[0].find(part), std::string::npos) << problems[0];
    EXPECT_THROW(newest_valid(folder_.path(), nullptr), DataError);
    put(path, good);
    ++refused_;
  }

  void expect_flip_refused(const std::string& name, uint64_t byte, int bit,
                           const std::string& part) {
    std::string bytes = bytes_of(name);
    bytes[byte] = static_cast<char>(bytes[byte] ^ (1 << bit));
    expect_refused(name, bytes, part);
  }

  /// The tensor whose bytes are there, "header" for none.
  static std::string owner_of(const Manifest& manifest, const std::string& shard, uint64_t byte) {
    for (const TensorRecord& tensor : manifest.tensors) {
      for (const Slice& slice : tensor.slices) {
        const bool holds = slice.offset <= byte && byte < slice.offset + slice.bytes;
        if (holds && manifest.shards[slice.shard].name == shard) return "\"" + tensor.name + "\"";
      }
    }
    return "header";
  }

  static void put(const std::string& path, const std::string& bytes) {
    FileWriter file(path);
    file.append(bytes);
    file.close();
  }

  MemoryFolder folder_;
  int64_t refused_ = 0;
};

TEST_F(DamageTest, EveryBitOfTheManifest) {
  const uint64_t bits = 8 * bytes_of(kManifestName).size();
  const uint64_t stride = is_torture() ? 1 : 29;
  for (uint64_t bit = 0; bit < bits; bit += stride) {
    expect_flip_refused(kManifestName, bit / 8, static_cast<int>(bit % 8), "");
  }
  std::cout << refused_ << " of " << bits << " bits of the manifest flipped and refused\n";
}

TEST_F(DamageTest, EveryBitOfTheHeaders) {
  const Manifest manifest = CheckpointReader(step_dir()).manifest();
  const uint64_t stride = is_torture() ? 1 : 29;
  for (const ShardRecord& shard : manifest.shards) {
    for (uint64_t bit = 0; bit < 8 * shard.header_bytes; bit += stride) {
      expect_flip_refused(shard.name, bit / 8, static_cast<int>(bit % 8), "header");
    }
  }
  std::cout << refused_ << " bits of headers flipped and refused\n";
}

TEST_F(DamageTest, EveryBitOfTheOtherFiles) {
  const Manifest manifest = CheckpointReader(step_dir()).manifest();
  for (const FileRecord& file : manifest.files) {
    for (uint64_t bit = 0; bit < 8 * file.bytes; ++bit) {
      expect_flip_refused(file.name, bit / 8, static_cast<int>(bit % 8), "digest");
    }
  }
  std::cout << refused_ << " bits of other files flipped and refused\n";
}

TEST_F(DamageTest, RandomBitsOfShardsNameTheTensor) {
  const Manifest manifest = CheckpointReader(step_dir()).manifest();
  std::mt19937_64 random(11);
  for (int i = 0; i < (is_torture() ? 10000 : 500); ++i) {
    const ShardRecord& shard = manifest.shards[random() % manifest.shards.size()];
    const uint64_t byte = shard.header_bytes + random() % (shard.bytes - shard.header_bytes);
    expect_flip_refused(shard.name, byte, static_cast<int>(random() % 8),
                        owner_of(manifest, shard.name, byte));
  }
  std::cout << refused_ << " random bits of shards flipped and refused\n";
}

TEST_F(DamageTest, EveryFileCutShortOrGrown) {
  const Manifest manifest = CheckpointReader(step_dir()).manifest();
  std::mt19937_64 random(12);
  for (const std::string& name : list_folder(step_dir())) {
    const std::string bytes = bytes_of(name);
    std::vector<uint64_t> sizes{0, 1, 7, 8, bytes.size() - 1};
    for (int i = 0; i < 20; ++i) sizes.push_back(random() % bytes.size());
    for (const ShardRecord& shard : manifest.shards) {
      if (shard.name != name) continue;
      sizes.insert(sizes.end(), {shard.header_bytes, shard.header_bytes + 1});
    }
    for (const uint64_t size : sizes) expect_refused(name, bytes.substr(0, size), "");
    expect_refused(name, bytes + '\0', "");
    expect_refused(name, bytes + bytes.back(), "");
  }
  std::cout << refused_ << " files of another size refused\n";
}

TEST_F(DamageTest, BlocksOfZerosAndGarbage) {
  std::mt19937_64 random(13);
  for (const std::string& name : list_folder(step_dir())) {
    const std::string bytes = bytes_of(name);
    for (const size_t block : {size_t{512}, size_t{4096}}) {
      for (size_t at = 0; at < bytes.size(); at += block) {
        std::string spoilt = bytes;
        const size_t end = std::min(bytes.size(), at + block);
        std::fill(spoilt.begin() + at, spoilt.begin() + end, '\0');
        if (spoilt != bytes) expect_refused(name, spoilt, "");
        std::generate(spoilt.begin() + at, spoilt.begin() + end,
                      [&] { return static_cast<char>(random()); });
        expect_refused(name, spoilt, "");
      }
    }
  }
  std::cout << refused_ << " blocks of zeros and garbage refused\n";
}

}  // namespace
}  // namespace switchyard
