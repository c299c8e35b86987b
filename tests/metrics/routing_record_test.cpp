#include "metrics/routing_record.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace switchyard {
namespace {

using Json = nlohmann::json;

TEST(RoutingRecordTest, FewRanksHaveACellEach) {
  const ExchangeMatrix matrix = exchange_matrix({1, 2, 3, 4}, 64);
  EXPECT_EQ(matrix.ranks_per_cell, 1);
  EXPECT_EQ(matrix.rows, (std::vector<std::vector<int64_t>>{{1, 2}, {3, 4}}));
}

TEST(RoutingRecordTest, ManyRanksShareCells) {
  const ExchangeMatrix matrix = exchange_matrix({1, 2, 3, 4, 5, 6, 7, 8, 9}, 2);
  EXPECT_EQ(matrix.ranks_per_cell, 2);
  EXPECT_EQ(matrix.rows, (std::vector<std::vector<int64_t>>{{1 + 2 + 4 + 5, 3 + 6}, {7 + 8, 9}}));
}

TEST(RoutingRecordTest, BytesOutsideUtf8AreEscaped) {
  EXPECT_EQ(as_utf8("plain \xc3\xa9"), "plain \xc3\xa9");
  EXPECT_EQ(as_utf8("\xc3"), "\\xc3");
  EXPECT_EQ(as_utf8("a\xff\xfe"
                    "b\xe2\x82"),
            "a\\xff\\xfe"
            "b\\xe2\\x82");
  EXPECT_EQ(as_utf8(""), "");
}

TEST(RoutingRecordTest, OnlyWhatIsKnownIsWritten) {
  RoutingRecord record;
  record.step = 7;
  record.layers = {{2}};
  EXPECT_EQ(Json(routing_record_json(record)), Json({{"step", 7}, {"ranks", 1}}));

  record.tokens = 5;
  record.exchange = exchange_matrix({9}, 64);
  record.layers[0].router_logits = {{-1, 0, 1}, {3, 4}};
  record.layers[0].experts = {{6, {{12, " the", 4, 0.5}}}, {}};
  const Json expected = Json::parse(R"({"step": 7, "ranks": 1,
    "exchange": {"ranks_per_cell": 1, "rows": [[9]]},
    "top_tokens": {"split": "val", "tokens": 5, "layers": [{"layer": 2, "experts": [
      {"copies": 6, "top": [{"id": 12, "text": " the", "copies": 4, "share": 0.5}]},
      {"copies": 0, "top": []}]}]},
    "router_logits": {"layers": [{"layer": 2, "edges": [-1.0, 0.0, 1.0], "counts": [3, 4]}]}})");
  EXPECT_EQ(Json(routing_record_json(record)), expected);
}

}  // namespace
}  // namespace switchyard
