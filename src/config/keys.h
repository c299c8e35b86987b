#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/join.h"

namespace switchyard {

/// A key that a config may have: "moe.balance" and "coef". Sections are keys too.
struct Key {
  std::string section;  // "" at the top
  std::string name;
  std::vector<std::string> words = {};  // what it takes, where that is a choice
  bool holds_keys = false;              // a section

  std::string path() const { return join_key(section, name); }
};

/// Every key, in the order of config/fields.h.
const std::vector<Key>& all_keys();

/// What an unknown key was meant to be.
struct Suggestion {
  std::string meant;  // the nearest key's path; "" when none is near
  std::string text;   // "; did you mean `model.hidden_size`?"
};

/// `section` without list indices: "moe.balance", not "moe.balance[1]". The same
/// name in another section is told with where it belongs.
Suggestion suggest_key(const std::string& section, const std::string& name);

}  // namespace switchyard
