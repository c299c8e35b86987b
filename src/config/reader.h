#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "config/document.h"
#include "config/run_config.h"

namespace switchyard {

/// A config as far as it could be read, and where each key was written.
struct Reading {
  RunConfig config;                     // defaults where nothing usable was written
  std::map<std::string, Place> places;  // "moe.balance[1].coef": of keys that were written
  std::set<std::string> broken;         // keys and sections whose value could not be read
  std::vector<Issue> issues;
};

/// Reads a mapping key by key: unknown keys and wrong types are issues. Values
/// are not judged here.
Reading read_config(const Value& root);

}  // namespace switchyard
