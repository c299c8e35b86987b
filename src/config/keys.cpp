#include "config/keys.h"

#include <algorithm>

#include "config/fields.h"
#include "config/join.h"
#include "config/nearest.h"

namespace switchyard {
namespace {

class KeyCollector {
 public:
  KeyCollector(std::string section, std::vector<Key>& keys)
      : section_(std::move(section)), keys_(keys) {}

  template <typename T>
  void operator()(std::string_view name, const T&, const Rule&, std::string_view) {
    keys_.push_back({section_, std::string(name)});
  }

  template <typename Section>
  void section(std::string_view name, const Section& value, std::string_view) {
    keys_.push_back({section_, std::string(name)});
    KeyCollector inner(keys_.back().path(), keys_);
    describe(inner, value);
  }

  template <typename Item>
  void list(std::string_view name, const std::vector<Item>&, std::string_view text) {
    section(name, Item{}, text);
  }

  void layers(std::string_view name, const std::string&, std::string_view) {
    keys_.push_back({section_, std::string(name)});
  }

 private:
  const std::string section_;
  std::vector<Key>& keys_;
};

std::vector<Key> collect_keys() {
  std::vector<Key> keys;
  KeyCollector collector("", keys);
  const RunConfig defaults;
  describe(collector, defaults);
  return keys;
}

Suggestion belongs_elsewhere(const std::vector<Key>& homes) {
  std::vector<std::string> sections;
  for (const Key& home : homes) {
    sections.push_back(home.section.empty() ? "the top level" : "`" + home.section + "`");
  }
  const std::string path = homes.front().path();
  return {path, "; it belongs to " + join(sections, " or ") + ": write `" + path + "`"};
}

std::string names_in(const std::string& section) {
  std::vector<std::string> names;
  for (const Key& key : all_keys()) {
    if (key.section == section) names.push_back(key.name);
  }
  return "; " + (section.empty() ? "a config" : "`" + section + "`") + " has " + join(names, ", ");
}

}  // namespace

const std::vector<Key>& all_keys() {
  static const std::vector<Key> keys = collect_keys();
  return keys;
}

Suggestion suggest_key(const std::string& section, const std::string& name) {
  std::vector<Key> homes;
  const Key* closest = nullptr;
  size_t smallest = typing_slack(name) + 1;
  for (const Key& key : all_keys()) {
    if (key.name == name) homes.push_back(key);
    const size_t move = key.section == section ? 0 : 1;
    const size_t distance = edit_distance(name, key.name) + move;
    if (distance < smallest) {
      smallest = distance;
      closest = &key;
    }
  }
  const bool nearer_here = closest != nullptr && closest->section == section && smallest <= 1;
  if (!homes.empty() && !nearer_here) return belongs_elsewhere(homes);
  if (closest == nullptr) return {"", names_in(section)};
  return {closest->path(), "; did you mean `" + closest->path() + "`?"};
}

}  // namespace switchyard
