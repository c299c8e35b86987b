#pragma once

#include <string>

namespace switchyard {

/// Where a value was written: a line of a file, a `--set` of the command line,
/// or nowhere (it is the default).
struct Place {
  std::string origin = "(default)";  // "run.yaml", "--set model.ffn=gelu", "(default)"
  int line = 0;                      // from 1; 0: the origin has no lines
};

/// "run.yaml:12", "--set model.ffn=gelu", "(default)".
inline std::string to_string(const Place& place) {
  return place.line > 0 ? place.origin + ":" + std::to_string(place.line) : place.origin;
}

/// What is wrong with a config, at one place.
struct Issue {
  Place place;
  std::string text;  // what, and the way out
};

}  // namespace switchyard
