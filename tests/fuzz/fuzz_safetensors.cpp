// The reader of safetensors headers.
#include <algorithm>
#include <cstring>
#include <set>

#include "base/safetensors.h"
#include "fuzz/fuzz.h"

namespace switchyard {
namespace {

// A file in three parts, so that a mutation of one need not break the others.
constexpr const char* kLength = "1-length";
constexpr const char* kHeader = "2-header";
constexpr const char* kData = "3-data";

std::string length_of(uint64_t bytes) {
  return std::string(reinterpret_cast<const char*>(&bytes), sizeof(bytes));
}

Files parts(const std::string& header, size_t data_bytes) {
  return {{kLength, length_of(header.size())},
          {kHeader, header},
          {kData, std::string(data_bytes, '\3')}};
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape +
         "],\"data_offsets\":[" + offsets + "]}";
}

/// What safetensors 0.8.0 lets pass, against or beyond the format, and we do not.
std::vector<Seed> laxities() {
  const std::string good = tensor("a", "F32", "2", "0,8");
  const auto refused = [](const std::string& name, const std::string& header) {
    return Seed{name, parts(header, 8), Verdict::kRefused};
  };
  return {refused("one name, two dtypes", "{" + good + "," + tensor("a", "I32", "2", "0,8") + "}"),
          refused("space before the brace", " {" + good + "}"),
          refused("a name that climbs", "{" + tensor("../../etc/passwd", "F32", "2", "0,8") + "}"),
          refused("no name", "{" + tensor("", "F32", "2", "0,8") + "}"),
          refused("an unknown field",
                  R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})")};
}

std::vector<Seed> hostile() {
  std::vector<Seed> seeds = laxities();
  const auto refuse = [&](const std::string& name, Files files) {
    seeds.push_back({name, std::move(files), Verdict::kRefused});
  };
  refuse("empty", {});
  refuse("deep", parts("{\"a\":" + std::string(100'000, '['), 0));
  refuse("overflow", parts("{" + tensor("a", "F32", "4611686018427387905,2", "0,8") + "}", 8));
  refuse("226 GB", parts("{" + tensor("a", "F32", "60000000000", "0,240000000000") + "}", 8));
  refuse("hole", parts("{" + tensor("a", "F32", "1", "4,8") + "}", 8));
  refuse("trailing", parts("{" + tensor("a", "F32", "1", "0,4") + "}", 8));
  Files huge = parts("{}", 0);
  for (const uint64_t length : {uint64_t{3}, uint64_t{100'000'001}, UINT64_MAX, UINT64_MAX - 7}) {
    huge[kLength] = length_of(length);
    refuse("length " + std::to_string(length), huge);
  }
  return seeds;
}

/// begin, size and what they must be.
void check(const SafetensorsReader& reader, const std::string& bytes) {
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  uint64_t at = sizeof(length) + length;
  std::set<std::string> names;
  unsigned touched = 0;
  for (const TensorEntry& entry : reader.tensors()) {
    __int128 bits = *dtype_bits(entry.dtype);
    for (const int64_t size : entry.shape) bits *= size;
    if (bits != static_cast<__int128>(entry.bytes) * 8) throw Finding("a size that is no product");
    if (entry.offset != at) throw Finding("tensors that do not touch");
    at += entry.bytes;
    if (at > bytes.size()) throw Finding("a tensor beyond the end");
    if (!is_tensor_name(entry.name) || !names.insert(entry.name).second) {
      throw Finding("a name that should not be");
    }
    if (reader.find(entry.name) != &entry) throw Finding("not found under its name");
    for (uint64_t i = 0; i < entry.bytes; ++i)
      touched += std::to_integer<unsigned>(reader.data(entry)[i]);
  }
  if (at != bytes.size() || touched > 255 * bytes.size()) throw Finding("bytes beyond the tensors");
}

class SafetensorsTarget final : public FuzzTarget {
 public:
  std::string name() const override { return "fuzz_safetensors"; }

  std::vector<Seed> seeds() override {
    std::vector<Seed> seeds = hostile();
    const auto accept = [&](const std::string& name, const std::string& header, size_t bytes) {
      seeds.push_back({name, parts(header, bytes), Verdict::kAccepted});
    };
    const std::string three = tensor("a", "F32", "2,3", "0,24") + "," +
                              tensor("b", "BF16", "4", "24,32") + "," +
                              tensor("c", "U8", "", "32,33");
    accept("nothing", "{}", 0);
    accept("padded", "{" + three + "}       ", 33);
    accept("metadata", R"({"__metadata__":{"format":"pt","save_id":"00ff"},)" + three + "}", 33);
    accept("empty tensors",
           "{" + tensor("e", "I64", "0", "0,0") + "," + tensor("a.b/c", "F64", "1", "0,8") + "}",
           8);
    accept("halves of bytes", "{" + tensor("h", "F4", "2,3", "0,3") + "}", 3);
    accept("all dtypes",
           "{" + tensor("f16", "F16", "1", "0,2") + "," + tensor("i8", "I8", "1", "2,3") + "," +
               tensor("bool", "BOOL", "3", "3,6") + "," + tensor("f8", "F8_E4M3", "2", "6,8") + "}",
           8);
    return seeds;
  }

  std::vector<std::string> words() const override {
    return {"\"__metadata__\":{\"a\":\"b\"},",
            "\"dtype\":",
            "\"F32\"",
            "\"F64\"",
            "\"F4\"",
            "\"BOOL\"",
            "\"F6_E2M3\"",
            "\"shape\":[",
            "\"data_offsets\":[",
            "\"a\":",
            "\"b\":",
            "null",
            "true",
            "[0,0]",
            "\\u0000",
            "\\ud800",
            "\\u00e9",
            "\xff",
            "\xc0\x80",
            "../",
            "/",
            " ",
            "\n",
            "{}",
            "[]",
            ",",
            ":",
            "-",
            ".0",
            "e1",
            tensor("d", "U8", "1", "33,34") + ","};
  }

  void repair(Files& files, Mutator&, Dice& dice) override {
    if (dice.once_in(5)) return;
    files[kLength] = length_of(files[kHeader].size());
  }

  void run(const Files& files) override {
    std::string bytes;
    for (const auto& [name, part] : files) bytes += part;
    folder_.become({{"x", bytes}});
    check(SafetensorsReader(folder_.path() + "/x", Symlinks::kRefuse), bytes);
  }

 private:
  FolderOnDisk folder_;
};

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  switchyard::SafetensorsTarget target;
  return switchyard::fuzz_main(argc, argv, target);
}
