#include "report/page.h"

#include <gtest/gtest.h>

#include "report/page_parts.h"

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

size_t count(const std::string& text, const std::string& what) {
  size_t found = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

TEST(PageTest, DataCannotEndItsElement) {
  const Json hostile = {{"</script>", "<!--<script>{{data}}\xe2\x80\xa8\xff&\""}};
  const std::string text = script_safe_json(hostile);
  EXPECT_EQ(text.find('<'), std::string::npos);
  const Json back = Json::parse(text);
  EXPECT_EQ(back["</script>"], "<!--<script>{{data}}\xe2\x80\xa8\xef\xbf\xbd&\"");

  const std::string harmless = report_page({{"runs", Json::array()}}, PageKind::kStandalone);
  const std::string page = report_page(hostile, PageKind::kStandalone);
  EXPECT_EQ(count(page, "</script>"), count(harmless, "</script>"));
  EXPECT_EQ(count(page, "<!--"), count(harmless, "<!--"));
}

TEST(PageTest, HoldsEveryPartAndForbidsLoading) {
  const std::string page = report_page({{"runs", Json::array()}}, PageKind::kStandalone);
  for (const char* part :
       {"d3.min.js", "report.css", "theme.js", "text.js", "model.js", "export.js", "figure.js",
        "line_chart.js", "heat_map.js", "bars.js", "tables.js", "page.js", "facts.js",
        "learning.js", "speed.js", "routing.js", "destinations.js", "report.js"}) {
    ASSERT_FALSE(page_part(part).empty()) << part;
    EXPECT_NE(page.find(page_part(part)), std::string::npos) << part;
    EXPECT_EQ(page_part(part).find("</script"), std::string::npos) << part;
  }
  EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
  EXPECT_NE(page.find("connect-src 'none'"), std::string::npos);
  EXPECT_NE(page.find("d3js.org v5"), std::string::npos);  // its notice stays
  EXPECT_EQ(page.find("src=\"http"), std::string::npos);
  EXPECT_NE(report_page(Json::object(), PageKind::kLive).find("connect-src 'self'"),
            std::string::npos);
  EXPECT_TRUE(page_part("none.js").empty());
}

}  // namespace
}  // namespace switchyard
