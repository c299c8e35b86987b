#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/histogram.h"

namespace switchyard {

/// Token copies that ranks send to each other in one step, forward dispatch, after drops:
/// rows[i][j] from the ranks of cell i to those of cell j.
struct ExchangeMatrix {
  int64_t ranks_per_cell = 1;
  std::vector<std::vector<int64_t>> rows;
};

/// The matrix of W ranks in at most `max_cells` x `max_cells` cells, each of so many
/// ranks; copies_WW holds W * W numbers, row by row.
ExchangeMatrix exchange_matrix(const std::vector<int64_t>& copies_WW, int64_t max_cells);

/// The text with every byte that does not belong to valid UTF-8 as \xNN: JSON holds no others,
/// and tokens may be parts of characters.
std::string as_utf8(std::string_view bytes);

/// A token among those that an expert takes.
struct TokenShare {
  int64_t id = 0;
  std::string text = {};
  int64_t copies = 0;
  double share = 0;  // of all of the token's copies in the layer
};

struct ExpertTokens {
  int64_t copies = 0;                // of all tokens
  std::vector<TokenShare> top = {};  // most copies first; of as many, the lower id
};

/// runs/NAME/routing.json: where a run's tokens go, as its report draws it.
struct RoutingRecord {
  struct Layer {
    int64_t layer = 0;  // the decoder layer, counted from 0
    std::vector<ExpertTokens> experts = {};
    Histogram router_logits = {};
  };

  int64_t step = 0, ranks = 1;
  ExchangeMatrix exchange;  // no rows: no step has been looked at
  std::string split = "val";
  int64_t tokens = 0;  // of the split that were routed; 0: none has been
  std::vector<Layer> layers;
};

/// What routing.json holds: the members `exchange`, `top_tokens` and `router_logits` only
/// where there is something.
nlohmann::ordered_json routing_record_json(const RoutingRecord& record);

}  // namespace switchyard
