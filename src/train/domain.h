#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "config/run_config.h"

namespace switchyard {

// A domain is the index of a source in data.path. The routers `domain` and `sequence`
// choose by it: in training every sequence brings its own, elsewhere it has to be told.

/// Throws ConfigError when the config has more sources than its router knows domains.
void check_domains(const RunConfig& config);

/// The domain that `--domain` names: an index, or the name of a source of data.path (given
/// there, or else its folder's). Throws ConfigError that lists what there is.
int64_t parse_domain(const std::string& text, const RunConfig& config);

/// Throws ConfigError when the model's router chooses by a domain that was not told.
void require_domain(const RunConfig& config, const std::optional<int64_t>& domain);

}  // namespace switchyard
