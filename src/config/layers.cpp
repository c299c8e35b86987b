#include "config/layers.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <set>
#include <string_view>

#include "base/error.h"
#include "config/load_config.h"
#include "config/nearest.h"
#include "config/scalar.h"

namespace switchyard {
namespace {

LayerChoice wrong(const std::string& error) { return {{}, error}; }

LayerChoice range(int64_t begin, int64_t end, int64_t step) {
  LayerChoice choice;
  for (int64_t layer = begin; layer < end; layer += step) choice.layers.push_back(layer);
  return choice;
}

LayerChoice choose_counted(std::string_view word, std::string_view number, int64_t num_layers) {
  const std::string text = std::string(word) + ":" + std::string(number);
  const std::optional<int64_t> count = parse_integer(number);
  if (!count || *count < 1)
    return wrong("must have a whole number of at least 1 after " + std::string(word) + ":, got `" +
                 text + "`");
  if (*count > num_layers) {
    return wrong(text + " is more than the " + std::to_string(num_layers) +
                 " layers of model.num_hidden_layers; use at most " + std::to_string(num_layers) +
                 ", or none");
  }
  return word == "every" ? range(*count - 1, num_layers, *count)
                         : range(num_layers - *count, num_layers, 1);
}

LayerChoice choose_listed(std::string_view text, int64_t num_layers) {
  std::set<int64_t> layers;
  while (true) {
    const size_t comma = text.find(',');
    const std::optional<int64_t> layer = parse_integer(text.substr(0, comma));
    if (!layer) return wrong("");
    if (*layer < 0 || *layer >= num_layers) {
      return wrong("names layer " + std::to_string(*layer) + "; layers are 0 to " +
                   std::to_string(num_layers - 1) + " (model.num_hidden_layers)");
    }
    if (!layers.insert(*layer).second) {
      return wrong("names layer " + std::to_string(*layer) + " twice; remove one");
    }
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
  }
  return {{layers.begin(), layers.end()}, ""};
}

}  // namespace

LayerChoice choose_layers(const std::string& text, int64_t num_layers) {
  if (text == "all") return range(0, num_layers, 1);
  if (text == "none") return {};
  const size_t colon = text.find(':');
  const std::string word = text.substr(0, colon);
  if (colon != std::string::npos && (word == "every" || word == "last")) {
    return choose_counted(word, std::string_view(text).substr(colon + 1), num_layers);
  }
  LayerChoice listed = choose_listed(text, num_layers);
  if (!listed.layers.empty() || !listed.error.empty()) return listed;
  const std::string_view meant = nearest(word, {"all", "none", "every", "last"});
  const std::string hint = meant.empty()
                               ? ""
                               : "; did you mean `" + std::string(meant) +
                                     (meant == "every" || meant == "last" ? ":N" : "") + "`?";
  return wrong("must be all, none, every:N, last:N or a list such as [1, 3], got `" + text + "`" +
               hint);
}

std::vector<int64_t> moe_layer_indices(const MoeConfig& moe, int64_t num_layers) {
  LayerChoice choice = choose_layers(moe.layers, num_layers);
  if (!choice.error.empty()) throw ConfigError("`moe.layers` " + choice.error);
  return std::move(choice.layers);
}

}  // namespace switchyard
