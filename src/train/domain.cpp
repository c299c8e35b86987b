#include "train/domain.h"

#include <charconv>
#include <filesystem>

#include "base/error.h"
#include "config/load_config.h"

namespace switchyard {
namespace {

struct Limit {
  int64_t domains;
  const char* key;
};

/// What the router of this model can tell apart; nothing: it does not look at domains.
std::optional<Limit> limit_of(const RunConfig& config) {
  const MoeConfig& moe = config.moe;
  if (moe_layer_indices(moe, config.model.num_hidden_layers).empty()) return std::nullopt;
  if (moe.router.type == "domain") return Limit{moe.num_experts, "moe.num_experts"};
  if (moe.router.type == "sequence") {
    return Limit{moe.router.sequence.clusters, "moe.router.sequence.clusters"};
  }
  return std::nullopt;
}

std::string name_of(const DataSource& source) {
  if (!source.name.empty()) return source.name;
  const std::filesystem::path path(source.path);
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

std::string all_domains(const RunConfig& config) {
  std::string text;
  for (size_t i = 0; i < config.data.path.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(i) + " (" + name_of(config.data.path[i]) + ")";
  }
  return text;
}

}  // namespace

void check_domains(const RunConfig& config) {
  const std::optional<Limit> limit = limit_of(config);
  const auto sources = static_cast<int64_t>(config.data.path.size());
  if (!limit || sources <= limit->domains) return;
  throw ConfigError("data.path: " + std::to_string(sources) +
                    " sources, each a domain, are more than " + limit->key + " " +
                    std::to_string(limit->domains) + " (moe.router.type " + config.moe.router.type +
                    "); raise it, or give fewer sources");
}

int64_t parse_domain(const std::string& text, const RunConfig& config) {
  const std::vector<DataSource>& sources = config.data.path;
  for (size_t i = 0; i < sources.size(); ++i) {
    if (name_of(sources[i]) == text) return static_cast<int64_t>(i);
  }
  int64_t index = -1;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, index);
  const bool is_known = index >= 0 && index < static_cast<int64_t>(sources.size());
  if (error == std::errc{} && stop == end && is_known) return index;
  throw ConfigError("--domain: `" + text + "` is no domain of this model; it has " +
                    all_domains(config));
}

void require_domain(const RunConfig& config, const std::optional<int64_t>& domain) {
  if (domain || !limit_of(config)) return;
  throw ConfigError("--domain: the router of this model (moe.router.type " +
                    config.moe.router.type +
                    ") chooses by the domain of a text; name one: " + all_domains(config));
}

}  // namespace switchyard
