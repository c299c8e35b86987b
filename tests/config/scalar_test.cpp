#include "config/scalar.h"

#include <gtest/gtest.h>

#include <limits>

namespace switchyard {
namespace {

TEST(Scalar, IntegersAreDecimalAndWhole) {
  EXPECT_EQ(parse_integer("12"), 12);
  EXPECT_EQ(parse_integer("-3"), -3);
  EXPECT_EQ(parse_integer("+3"), 3);
  EXPECT_EQ(parse_integer("9223372036854775807"), std::numeric_limits<int64_t>::max());
  for (const char* text :
       {"", "1.5", "1e3", "1_000", "0x10", "12 ", "+-3", "yes", "9223372036854775808"}) {
    EXPECT_EQ(parse_integer(text), std::nullopt) << text;
  }
}

TEST(Scalar, RealsAreFinite) {
  EXPECT_EQ(parse_real("1e-3"), 0.001);
  EXPECT_EQ(parse_real(".5"), 0.5);
  EXPECT_EQ(parse_real("3"), 3.0);
  for (const char* text : {"", "inf", ".inf", "nan", ".nan", "1e999", "1_000", "0.1.2", "one"}) {
    EXPECT_EQ(parse_real(text), std::nullopt) << text;
  }
}

TEST(Scalar, RealsRoundTrip) {
  for (const double value :
       {0.1, 1.0 / 3, 1e-8, 5e-324, 1.7976931348623157e308, 3e-4, 0.0, 1e22, 123456789.123456789}) {
    EXPECT_EQ(parse_real(format_real(value)), value) << format_real(value);
  }
  EXPECT_EQ(format_real(0.001), "0.001");
  EXPECT_EQ(format_real(1e-8), "1.0e-08");
}

TEST(Scalar, TextIsQuotedWhereYamlWouldReadSomethingElse) {
  EXPECT_EQ(format_text("runs/quick-start.v2"), "runs/quick-start.v2");
  EXPECT_EQ(format_text("every:2"), "every:2");
  EXPECT_EQ(format_text("null"), "\"null\"");
  EXPECT_EQ(format_text("True"), "\"True\"");
  EXPECT_EQ(format_text("12"), "\"12\"");
  EXPECT_EQ(format_text("1e3"), "\"1e3\"");
  EXPECT_EQ(format_text(""), "\"\"");
  EXPECT_EQ(format_text("*.gate.*"), "\"*.gate.*\"");
  EXPECT_EQ(format_text("a\"b\\\n\x01"), "\"a\\\"b\\\\\\n\\x01\"");
}

}  // namespace
}  // namespace switchyard
