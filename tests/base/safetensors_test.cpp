#include "base/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <numeric>

#include "base/error.h"
#include "base/scratch_folder.h"

namespace switchyard {
namespace {

/// A file of this header (its length in front) and so many bytes of data.
std::string container(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header +
         std::string(data_bytes, '\1');
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape +
         "],\"data_offsets\":[" + offsets + "]}";
}

std::string refusal(const std::string& bytes) {
  const ScratchFolder folder;
  const std::string path = folder / "x.safetensors";
  write_file_atomically(path, bytes);
  const std::string message = message_of<DataError>([&] { SafetensorsReader reader(path); });
  EXPECT_NE(message.find(path), std::string::npos) << message;
  return message;
}

TEST(SafetensorsTest, WrittenTensorsReadBack) {
  const ScratchFolder folder;
  const std::string path = folder / "x.safetensors";
  std::vector<float> a(6);
  std::iota(a.begin(), a.end(), 1.0f);
  const std::vector<uint16_t> b = {1, 2, 3};
  const uint8_t scalar = 7;
  SafetensorsWriter writer(
      path, {{"a", "F32", {2, 3}}, {"b", "BF16", {3}}, {"none", "U8", {0, 4}}, {"s", "U8", {}}},
      {{"format", "pt"}, {"step", "12"}});
  writer.append(a.data(), 8);
  writer.append(a.data() + 2, 16);
  writer.append(b.data(), 6);
  writer.append(&scalar, 1);
  writer.finish();

  const SafetensorsReader reader(path);
  ASSERT_EQ(reader.tensors().size(), 4u);
  EXPECT_EQ(reader.at("a").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(reader.at("a").dtype, "F32");
  EXPECT_EQ(std::memcmp(reader.data(reader.at("a")), a.data(), 24), 0);
  EXPECT_EQ(std::memcmp(reader.data(reader.at("b")), b.data(), 6), 0);
  EXPECT_EQ(reader.at("none").bytes, 0u);
  EXPECT_EQ(*reader.data(reader.at("s")), std::byte{7});
  EXPECT_TRUE(reader.at("s").shape.empty());
  EXPECT_EQ(reader.metadata().at("format"), "pt");
  EXPECT_EQ(reader.metadata().at("step"), "12");
  EXPECT_EQ(reader.find("c"), nullptr);
  EXPECT_THROW(reader.at("c"), DataError);
}

TEST(SafetensorsTest, TheWriterTellsWhereThingsAre) {
  const ScratchFolder folder;
  const std::string path = folder / "x.safetensors";
  const double values[] = {1, 2};
  SafetensorsWriter writer(path, {{"a", "F64", {2}}});
  writer.append(values, 16);
  writer.finish();
  EXPECT_EQ(writer.header_bytes() % 8, 0u);
  EXPECT_EQ(writer.tensors()[0].offset, writer.header_bytes());
  EXPECT_EQ(writer.file_bytes(), writer.header_bytes() + 16);
  const std::string bytes = read_file(path);
  EXPECT_EQ(bytes.size(), writer.file_bytes());
  EXPECT_EQ(xxh3(bytes.data(), writer.header_bytes()), writer.header_xxh3());
}

TEST(SafetensorsTest, TheWriterKeepsItsContract) {
  const ScratchFolder folder;
  const std::string path = folder / "x.safetensors";
  using Declarations = std::vector<TensorDeclaration>;
  for (const Declarations& bad :
       {Declarations{{"a", "F32", {1}}, {"a", "F32", {1}}}, Declarations{{"", "F32", {1}}},
        Declarations{{"__metadata__", "F32", {1}}}, Declarations{{"a", "F31", {1}}},
        Declarations{{"a", "F32", {-1}}}, Declarations{{"a", "F32", {1, 1, 1, 1, 1, 1, 1, 1, 1}}},
        Declarations{{"a", "F32", {INT64_MAX}}}, Declarations{{"a", "F4", {1}}}}) {
    EXPECT_THROW(SafetensorsWriter(path, bad), std::logic_error);
  }
  SafetensorsWriter writer(path, {{"a", "U8", {2}}});
  writer.append("x", 1);
  EXPECT_THROW(writer.finish(), std::logic_error);
  EXPECT_THROW(writer.append("xy", 2), std::logic_error);
}

TEST(SafetensorsTest, DeclarationsSortAsTheOfficialWriterDoes) {
  std::vector<TensorDeclaration> declarations = {
      {"b", "F32", {1}}, {"c", "BF16", {1}}, {"z", "F64", {1}}, {"a", "F32", {1}}};
  sort_declarations(declarations);
  std::string order;
  for (const TensorDeclaration& declaration : declarations) order += declaration.name;
  EXPECT_EQ(order, "zabc");
}

TEST(SafetensorsTest, ReadsWhatTheFormatAllows) {
  const ScratchFolder folder;
  const std::string path = folder / "x.safetensors";
  const std::string header =
      "{" + tensor("second", "F32", "2", "3,11") + "," + tensor("first", "U8", "3", "0,3") + "," +
      tensor("packed", "F4", "4", "11,13") + "," + tensor("empty", "I64", "0", "3,3") + "}   ";
  write_file_atomically(path, container(header, 13));
  const SafetensorsReader reader(path);
  EXPECT_EQ(reader.tensors().front().name, "first");
  EXPECT_EQ(reader.at("second").offset, 8 + header.size() + 3);
  EXPECT_EQ(reader.at("packed").bytes, 2u);
}

TEST(SafetensorsTest, ReadsAFileWithoutTensors) {
  const ScratchFolder folder;
  SafetensorsWriter writer(folder / "x", {});
  writer.finish();
  EXPECT_TRUE(SafetensorsReader(folder / "x").tensors().empty());
}

struct Malformed {
  const char* name;
  std::string bytes;
  const char* complaint;
};

void PrintTo(const Malformed& file, std::ostream* out) { *out << file.name; }

std::string one(const std::string& header, size_t data_bytes = 8) {
  return container("{" + header + "}", data_bytes);
}

std::string with_length(uint64_t length, const std::string& rest) {
  return std::string(reinterpret_cast<const char*>(&length), 8) + rest;
}

std::vector<Malformed> malformed_files() {
  const std::string good = tensor("a", "F32", "2", "0,8");
  const std::string max = "9223372036854775807";
  return {
      {"Empty", "", "only 0 bytes"},
      {"SevenBytes", std::string(7, '\0'), "only 7 bytes"},
      {"NoHeader", std::string(8, '\0'), "begins with no {"},
      {"HeaderBeyondTheFile", with_length(100, "{}"), "header of 100 bytes"},
      {"HeaderOfTheLargestLength", with_length(UINT64_MAX, "{}"), "more than 100000000"},
      {"HeaderThatWrapsAround", with_length(UINT64_MAX - 7, "{}"), "more than 100000000"},
      {"HeaderAboveTheCap", with_length(100'000'001, "{}"), "more than 100000000"},
      {"SpaceBeforeTheBrace", container(" {" + good + "}", 8), "begins with no {"},
      {"NewlineAfterTheBrace", container("{" + good + "}\n", 8), "ends with no }"},
      {"TwoValues", container("{" + good + "}{}", 8), "not valid JSON"},
      {"TornJson", container("{" + good.substr(0, 20) + "}", 8), "not valid JSON"},
      {"InvalidUtf8", one(tensor("\xff", "F32", "2", "0,8")), "not valid JSON"},
      {"AList", container("[1]", 0), "begins with no {"},
      {"Hole", one(good + "," + tensor("b", "F32", "1", "12,16"), 16), "hole of 4 bytes"},
      {"HoleAtTheBeginning", one(tensor("a", "F32", "1", "4,8")), "hole of 4 bytes"},
      {"Overlap", one(good + "," + tensor("b", "F32", "2", "4,12"), 12), "overlaps"},
      {"SameRangeTwice", one(good + "," + tensor("b", "I32", "2", "0,8")), "overlaps"},
      {"EmptyTensorInsideAnother", one(good + "," + tensor("b", "I32", "0", "4,4")), "overlaps"},
      {"TrailingBytes", one(good, 9), "1 trailing bytes"},
      {"OnlyTrailingBytes", one("", 1), "1 trailing bytes"},
      {"Truncated", one(good, 7), "the file is truncated"},
      {"SizeIsNotShapeTimesDtype", one(tensor("a", "F32", "3", "0,8")), "shape and dtype of 12"},
      {"BackwardsOffsets", one(tensor("a", "F32", "2", "8,0")), "run backwards"},
      {"ThreeOffsets", one(tensor("a", "F32", "2", "0,8,8")), "not two numbers"},
      {"NegativeOffset", one(tensor("a", "F32", "2", "-8,0")), "unsigned integer"},
      {"FractionalOffset", one(tensor("a", "F32", "2", "0,8.0")), "unsigned integer"},
      {"NegativeDimension", one(tensor("a", "F32", "-2,-1", "0,8")), "unsigned integer"},
      {"FractionalDimension", one(tensor("a", "F32", "2.0", "0,8")), "unsigned integer"},
      {"ShapeThatOverflows", one(tensor("a", "F32", max + "," + max, "0,8")), "no size"},
      {"ShapeThatWrapsToTheRightSize", one(tensor("a", "F32", "4611686018427387905,2", "0,8")),
       "no size"},
      {"DimensionAbove63Bits", one(tensor("a", "F32", "9223372036854775808", "0,8")), "too large"},
      {"HugeShape", one(tensor("a", "F32", "60000000000", "0,240000000000")), "truncated"},
      {"NineDimensions", one(tensor("a", "F32", "1,1,1,1,1,1,1,1,2", "0,8")), "9 dimensions"},
      {"HalfAByte", one(tensor("a", "F4", "1", "0,1"), 1), "no size"},
      {"UnknownDtype", one(tensor("a", "F31", "2", "0,8")), "unknown dtype \"F31\""},
      {"LowerCaseDtype", one(tensor("a", "f32", "2", "0,8")), "unknown dtype"},
      {"NoDtype", one(R"("a":{"shape":[2],"data_offsets":[0,8]})"), "\"dtype\" is missing"},
      {"OffsetsUnderTheirOldName", one(R"("a":{"dtype":"F32","shape":[2],"offsets":[0,8]})"),
       "\"data_offsets\" is missing"},
      {"UnknownField", one(R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1})"),
       "\"x\" is not known"},
      {"ShapeIsNoArray", one(R"("a":{"dtype":"F32","shape":2,"data_offsets":[0,8]})"),
       "not an array"},
      {"TensorIsNoObject", one(R"("a":3)"), "not a JSON object"},
      {"TooDeep", one(R"("a":{"dtype":"F32","shape":[[[2]]],"data_offsets":[0,8]})"), "deeper"},
      {"SameNameTwice", one(good + "," + tensor("a", "F32", "2", "8,16"), 16), "given twice"},
      {"SameNameTwoDtypes", one(good + "," + tensor("a", "I32", "2", "0,8")), "given twice"},
      {"SameFieldTwice",
       one(R"("a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]})"), "given twice"},
      {"MetadataTwice", one(R"("__metadata__":{},"__metadata__":{},)" + good), "given twice"},
      {"MetadataIsNoString", one(R"("__metadata__":{"step":1},)" + good), "not a string"},
      {"MetadataIsNoObject", one(R"("__metadata__":"pt",)" + good), "not a JSON object"},
      {"EmptyName", one(tensor("", "F32", "2", "0,8")), "not a name"},
      {"NameThatClimbs", one(tensor("../../etc/passwd", "F32", "2", "0,8")), "not a name"},
      {"AbsoluteName", one(tensor("/etc/passwd", "F32", "2", "0,8")), "not a name"},
      {"NameWithNul", one(tensor("a\\u0000", "F32", "2", "0,8")), "not a name"},
      {"LongName", one(tensor(std::string(513, 'a'), "F32", "2", "0,8")), "not a name"},
  };
}

class MalformedSafetensorsTest : public testing::TestWithParam<Malformed> {};

TEST_P(MalformedSafetensorsTest, IsRefusedByName) {
  const std::string message = refusal(GetParam().bytes);
  EXPECT_NE(message.find(GetParam().complaint), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(Safetensors, MalformedSafetensorsTest,
                         testing::ValuesIn(malformed_files()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(SafetensorsTest, EveryTruncationIsRefused) {
  const std::string whole = one(tensor("a", "F32", "2", "0,8"));
  for (size_t size = 0; size < whole.size(); ++size) refusal(whole.substr(0, size));
}

TEST(SafetensorsTest, RefusesLinksWhenAskedTo) {
  const ScratchFolder folder;
  write_file_atomically(folder / "x", one(tensor("a", "F32", "2", "0,8")));
  std::filesystem::create_symlink("x", folder / "link");
  EXPECT_NO_THROW(SafetensorsReader(folder / "link"));
  EXPECT_THROW(SafetensorsReader(folder / "link", Symlinks::kRefuse), DataError);
}

}  // namespace
}  // namespace switchyard
