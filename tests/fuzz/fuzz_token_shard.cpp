// The reader of token shards: PREFIX.idx and PREFIX.bin.
#include <cstring>
#include <numeric>

#include "data/token_shard.h"
#include "fuzz/fuzz.h"

namespace switchyard {
namespace {

constexpr const char* kIndex = "s.idx";
constexpr const char* kTokens = "s.bin";
constexpr size_t kHeaderBytes = 34;

template <typename T>
T load(const std::string& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

template <typename T>
void store(std::string& bytes, size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof(T));
}

size_t width_of(const std::string& index) { return index[17] == 4 ? 4 : 2; }

/// Tokens of all sequences, as the lengths in an accepted index say.
int64_t tokens_of(const std::string& index) {
  int64_t tokens = 0;
  const auto sequences = load<uint64_t>(index, 18);
  for (uint64_t i = 0; i < sequences; ++i) {
    const auto length = load<int32_t>(index, kHeaderBytes + 4 * i);
    if (length < 0) throw Finding("a sequence of negative length");
    const auto offset = load<int64_t>(index, kHeaderBytes + 4 * sequences + 8 * i);
    if (offset != tokens * static_cast<int64_t>(width_of(index))) throw Finding("an offset");
    tokens += length;
  }
  return tokens;
}

class TokenShardTarget final : public FuzzTarget {
 public:
  std::string name() const override { return "fuzz_token_shard"; }

  std::vector<Seed> seeds() override {
    std::vector<Seed> seeds;
    const auto add = [&](const std::string& name, TokenType type,
                         const std::vector<std::vector<int32_t>>& documents) {
      seeds.push_back({name, written(type, documents), Verdict::kAccepted});
    };
    add("nothing", TokenType::kUint16, {});
    add("one", TokenType::kUint16, {{7}});
    add("empty documents", TokenType::kUint16, {{}, {1, 2}, {}});
    add("some", TokenType::kUint16, {{1, 2, 3}, {65535}, {4, 5, 6, 7}});
    add("wide", TokenType::kInt32, {{1, 2, 3}, {2'000'000'000}, {4, 5}});
    std::vector<int32_t> long_document(5'000);
    std::iota(long_document.begin(), long_document.end(), 0);
    add("long", TokenType::kUint16, {long_document, {1}});
    add_hostile(seeds);
    return seeds;
  }

  std::vector<std::string> words() const override {
    return {std::string("MMIDIDX\0\0", 9),
            std::string("\1\0\0\0\0\0\0\0", 8),
            std::string(4, '\0'),
            std::string(8, '\0'),
            std::string("\xff\xff\xff\x7f", 4),
            std::string(8, '\xff'),
            "\4",
            "\x8"};
  }

  /// Counts that are the file's, then offsets that are the lengths', then a .bin that fits.
  void repair(Files& files, Mutator& mutator, Dice& dice) override {
    std::string& index = files[kIndex];
    if (index.size() < kHeaderBytes || dice.once_in(3)) return;
    const size_t room = index.size() - kHeaderBytes;
    const size_t sequences = dice.once_in(2) ? room / 12 : dice.below(room / 12 + 1);
    index.resize(kHeaderBytes + sequences * 12 + (room - sequences * 12) / 8 * 8);
    store<uint64_t>(index, 18, sequences);
    store<uint64_t>(index, 26, (room - sequences * 12) / 8);
    if (dice.once_in(3)) return;
    int64_t tokens = 0;
    for (size_t i = 0; i < sequences; ++i) {
      auto length = load<int32_t>(index, kHeaderBytes + 4 * i);
      if (!dice.once_in(20)) length = static_cast<int32_t>(static_cast<uint32_t>(length) % 100);
      store(index, kHeaderBytes + 4 * i, length);
      store(index, kHeaderBytes + 4 * sequences + 8 * i,
            dice.once_in(50) ? static_cast<int64_t>(mutator.number())
                             : tokens * static_cast<int64_t>(width_of(index)));
      tokens += length;
    }
    if (tokens < 0 || tokens > 10'000 || dice.once_in(5)) return;
    files[kTokens].resize(tokens * width_of(index));
    fit_documents(index, sequences);
  }

  void run(const Files& files) override {
    folder_.become(files);
    const TokenShard shard(folder_.path() + "/s");
    const std::string& index = files.at(kIndex);
    const std::string& tokens = files.at(kTokens);
    if (shard.num_tokens() != tokens_of(index)) throw Finding("another number of tokens");
    if (static_cast<size_t>(shard.num_tokens()) * width_of(index) != tokens.size()) {
      throw Finding("tokens that the .bin does not have");
    }
    if (static_cast<uint64_t>(shard.num_documents()) + 1 != load<uint64_t>(index, 26)) {
      throw Finding("another number of documents");
    }
    std::vector<int64_t> read(shard.num_tokens());
    shard.read(0, shard.num_tokens(), read.data());
    for (size_t i = 0; i < read.size(); ++i) {
      const int64_t expected =
          width_of(index) == 4 ? load<int32_t>(tokens, 4 * i) : load<uint16_t>(tokens, 2 * i);
      if (read[i] != expected) throw Finding("token " + std::to_string(i) + " is another");
    }
  }

 private:
  Files written(TokenType type, const std::vector<std::vector<int32_t>>& documents) {
    folder_.become({});
    TokenShardWriter writer(folder_.path() + "/s", type);
    for (const std::vector<int32_t>& document : documents) {
      writer.append(document);
      writer.end_document();
    }
    writer.finish();
    Files files = {{kIndex, slurp(folder_.path() + "/s.idx")},
                   {kTokens, slurp(folder_.path() + "/s.bin")}};
    folder_.become(files);
    return files;
  }

  static void add_hostile(std::vector<Seed>& seeds) {
    const Files good = seeds[3].files;
    const auto refuse = [&](const std::string& name, auto&& damage) {
      Files files = good;
      damage(files[kIndex], files[kTokens]);
      seeds.push_back({name, files, Verdict::kRefused});
    };
    refuse("no index", [](auto& index, auto&) { index.clear(); });
    refuse("no tokens", [](auto&, auto& tokens) { tokens.clear(); });
    refuse("an odd byte", [](auto&, auto& tokens) { tokens += '\0'; });
    refuse("counts that wrap",
           [](auto& index, auto&) { store<uint64_t>(index, 18, UINT64_MAX / 12 + 1); });
    refuse("no bounds", [](auto& index, auto&) { store<uint64_t>(index, 26, 0); });
    refuse("a negative length", [](auto& index, auto&) { store<int32_t>(index, 34, -3); });
    refuse("2^31 tokens", [](auto& index, auto&) { store<int32_t>(index, 34, INT32_MAX); });
    refuse("an offset far away",
           [](auto& index, auto&) { store<int64_t>(index, 34 + 12, INT64_MAX); });
    refuse("documents that go back",
           [](auto& index, auto&) { store<int64_t>(index, 34 + 36 + 8, 3); });
    refuse("another width", [](auto& index, auto&) { index[17] = 4; });
  }

  /// From 0 to the number of sequences, and never back.
  static void fit_documents(std::string& index, size_t sequences) {
    const auto bounds = load<uint64_t>(index, 26);
    for (uint64_t i = 0; i < bounds; ++i) {
      const uint64_t bound = i + 1 == bounds ? sequences : sequences * i / bounds;
      store<int64_t>(index, kHeaderBytes + 12 * sequences + 8 * i, static_cast<int64_t>(bound));
    }
  }

  FolderOnDisk folder_;
};

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  switchyard::TokenShardTarget target;
  return switchyard::fuzz_main(argc, argv, target);
}
