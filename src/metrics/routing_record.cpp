#include "metrics/routing_record.h"

#include <nlohmann/json.hpp>

#include "base/utf8.h"

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

Json expert_json(const ExpertTokens& expert) {
  Json top = Json::array();
  for (const TokenShare& token : expert.top) {
    top.push_back(
        {{"id", token.id}, {"text", token.text}, {"copies", token.copies}, {"share", token.share}});
  }
  return {{"copies", expert.copies}, {"top", top}};
}

}  // namespace

std::string as_utf8(std::string_view bytes) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string text;
  while (!bytes.empty()) {
    const size_t valid = first_invalid_utf8(bytes).value_or(bytes.size());
    text += bytes.substr(0, valid);
    bytes.remove_prefix(valid);
    if (bytes.empty()) break;
    const auto code = static_cast<unsigned char>(bytes.front());
    text += {'\\', 'x', kHex[code >> 4], kHex[code & 15]};
    bytes.remove_prefix(1);
  }
  return text;
}

ExchangeMatrix exchange_matrix(const std::vector<int64_t>& copies_WW, int64_t max_cells) {
  int64_t W = 0;
  while (W * W < static_cast<int64_t>(copies_WW.size())) ++W;
  ExchangeMatrix matrix;
  matrix.ranks_per_cell = (W + max_cells - 1) / max_cells;
  const int64_t cells = (W + matrix.ranks_per_cell - 1) / matrix.ranks_per_cell;
  matrix.rows.assign(cells, std::vector<int64_t>(cells, 0));
  for (int64_t from = 0; from < W; ++from) {
    for (int64_t to = 0; to < W; ++to) {
      matrix.rows[from / matrix.ranks_per_cell][to / matrix.ranks_per_cell] +=
          copies_WW[from * W + to];
    }
  }
  return matrix;
}

Json routing_record_json(const RoutingRecord& record) {
  Json json = {{"step", record.step}, {"ranks", record.ranks}};
  Json tokens = Json::array(), logits = Json::array();
  for (const RoutingRecord::Layer& layer : record.layers) {
    Json experts = Json::array();
    for (const ExpertTokens& expert : layer.experts) experts.push_back(expert_json(expert));
    tokens.push_back({{"layer", layer.layer}, {"experts", experts}});
    if (layer.router_logits.counts.empty()) continue;
    logits.push_back({{"layer", layer.layer},
                      {"edges", layer.router_logits.edges},
                      {"counts", layer.router_logits.counts}});
  }
  if (!record.exchange.rows.empty()) {
    json["exchange"] = {{"ranks_per_cell", record.exchange.ranks_per_cell},
                        {"rows", record.exchange.rows}};
  }
  if (record.tokens > 0) {
    json["top_tokens"] = {{"split", record.split}, {"tokens", record.tokens}, {"layers", tokens}};
  }
  if (!logits.empty()) json["router_logits"] = {{"layers", logits}};
  return json;
}

}  // namespace switchyard
