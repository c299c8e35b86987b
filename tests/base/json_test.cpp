#include "base/json.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/random.h"
#include "base/scratch_folder.h"

namespace switchyard {
namespace {

std::string refusal(std::string_view text, JsonLimits limits = {}) {
  return message_of<DataError>([&] { parse_json(text, "x.json", limits); });
}

TEST(JsonTest, ReadsJson) {
  const nlohmann::json json = parse_json(R"({"a": [1, 2.5, {"a": null}], "b": {"a": "c"}})", "x");
  EXPECT_EQ(json["a"][1], 2.5);
  EXPECT_EQ(json["b"]["a"], "c");
}

TEST(JsonTest, RefusesAKeyGivenTwice) {
  EXPECT_EQ(refusal(R"({"a": 1, "b": {"c": 1, "c": 2}})"), "x.json: the key \"c\" is given twice");
}

TEST(JsonTest, RefusesWhatIsTooDeepOrTooLong) {
  EXPECT_NO_THROW(parse_json("[[[1]]]", "x", {100, 3}));
  EXPECT_EQ(refusal("[[[[1]]]]", {100, 3}), "x.json: nested deeper than 3");
  EXPECT_NE(refusal(std::string(1'000'000, '[')).find("nested deeper"), std::string::npos);
  EXPECT_NE(refusal("[1, 2]", {5, 3}).find("6 bytes of JSON, more than 5"), std::string::npos);
}

TEST(JsonTest, RefusesWhatIsNoJson) {
  for (const char* bad : {"", "{", "{} {}", "{'a': 1}", "{\"a\": 1,}", "[NaN]", "[01]", "[1e999]",
                          "{\"a\": \"\xff\"}", "// no\n{}"}) {
    EXPECT_NE(refusal(bad).find("x.json: not valid JSON"), std::string::npos) << bad;
  }
}

TEST(JsonTest, ComplaintsArePrintable) {
  for (const char byte : refusal("{\"\xff\x01\"}")) EXPECT_TRUE(byte >= 0x20 && byte < 0x7f);
  EXPECT_EQ(refusal(R"({"a\u0000b": 1, "a\u0000b": 2})"),
            "x.json: the key \"a\\x00b\" is given twice");
}

TEST(JsonFieldsTest, TakesKnownFieldsOfTheRightType) {
  const nlohmann::json json = parse_json(R"({"n": 3, "t": "x", "a": [], "o": {}})", "x");
  JsonFields fields(json, "x.json");
  EXPECT_EQ(fields.number("n"), 3u);
  EXPECT_EQ(fields.text("t"), "x");
  EXPECT_TRUE(fields.array("a").empty());
  EXPECT_EQ(message_of<DataError>([&] { fields.finish(); }), "x.json: \"o\" is not known here");
  EXPECT_TRUE(fields.object("o").empty());
  fields.finish();
  EXPECT_EQ(message_of<DataError>([&] { fields.text("z"); }), "x.json: \"z\" is missing");
  EXPECT_EQ(message_of<DataError>([&] { fields.text("n"); }), "x.json: \"n\" is not a string");
  EXPECT_THROW(fields.array("o"), DataError);
  EXPECT_THROW(fields.object("a"), DataError);
  EXPECT_THROW(JsonFields(json["a"], "x"), DataError);
}

TEST(JsonFieldsTest, NumbersAreUnsignedIntegers) {
  const nlohmann::json json = parse_json(
      R"({"minus": -1, "half": 0.5, "whole": 1.0, "exponent": 1e3, "text": "1",
          "large": 18446744073709551615, "larger": 18446744073709551616})",
      "x");
  JsonFields fields(json, "x.json");
  for (const char* key : {"minus", "half", "whole", "exponent", "text", "larger"}) {
    EXPECT_THROW(fields.number(key), DataError) << key;
  }
  EXPECT_EQ(fields.number("large"), UINT64_MAX);
  EXPECT_THROW(fields.count("large"), DataError);
}

uint64_t bits(double value) { return std::bit_cast<uint64_t>(value); }

TEST(NumberTextTest, ReadsBackBitEqual) {
  std::vector<double> values = {0.0,
                                -0.0,
                                1.0,
                                3.0,
                                0.1,
                                1e22,
                                1e300,
                                5e-324,
                                1.0 / 3,
                                1e20,
                                12345678901234567000.0,
                                std::nextafter(1.0, 2)};
  for (uint64_t i = 0; i < 2000; ++i) {
    const auto lanes = philox4x32({static_cast<uint32_t>(i), 0, 0, 0}, {1, 2});
    const auto value = std::bit_cast<double>(uint64_t{lanes[0]} << 32 | lanes[1]);
    if (std::isfinite(value)) values.push_back(value);
  }
  for (const double value : values) {
    const nlohmann::json json = parse_json(number_text(value), "number");
    EXPECT_TRUE(json.is_number_float()) << number_text(value);
    EXPECT_EQ(bits(json.get<double>()), bits(value)) << number_text(value);
  }
}

TEST(NumberTextTest, IsShortAndNeverInvalidJson) {
  EXPECT_EQ(number_text(0.1), "0.1");
  EXPECT_EQ(number_text(3), "3.0");
  EXPECT_EQ(number_text(std::numeric_limits<double>::infinity()), "null");
  EXPECT_EQ(number_text(std::nan("")), "null");
}

}  // namespace
}  // namespace switchyard
