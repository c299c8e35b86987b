#include "config/load_config.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "config/check.h"
#include "config/reader.h"
#include "config/sources.h"

namespace switchyard {
namespace {

/// Files first, then the command line, then defaults.
int rank_of(const Place& place) {
  if (place.line > 0) return 0;
  return place.origin == Place{}.origin ? 2 : 1;
}

[[noreturn]] void throw_all(std::vector<Issue> issues) {
  std::stable_sort(issues.begin(), issues.end(), [](const Issue& a, const Issue& b) {
    return std::tuple(rank_of(a.place), std::string_view(a.place.origin), a.place.line) <
           std::tuple(rank_of(b.place), std::string_view(b.place.origin), b.place.line);
  });
  std::string text;
  for (const Issue& issue : issues) {
    const std::string line = to_string(issue.place) + ": " + issue.text;
    text += (text.empty() ? "" : "\n") + line;
  }
  throw ConfigError(text);
}

/// Whether the key, or a section above it, is in the set.
bool is_in(const std::set<std::string>& keys, std::string key) {
  while (!keys.contains(key)) {
    const size_t end = key.find_last_of(".[");
    if (end == std::string::npos) return false;
    key.resize(end);
  }
  return true;
}

/// With load_from, what `model` and `moe` leave out is the checkpoint's to say, which comes
/// as part of the document once it is known.
bool is_left_to_checkpoint(const Reading& reading, const std::string& key) {
  const bool of_model = key.starts_with("model.") || key.starts_with("moe.");
  return of_model && reading.config.checkpoint.load_from && !reading.places.contains(key);
}

/// Where a complaint points: the first of its keys that was written.
Place place_of(const Complaint& complaint, const Reading& reading) {
  for (const std::string& key : complaint.keys) {
    const auto found = reading.places.find(key);
    if (found != reading.places.end()) return found->second;
  }
  return {};
}

void judge(const Document& document, Reading& reading, int world_size) {
  const auto add = [&](const Complaint& complaint) {
    reading.issues.push_back({place_of(complaint, reading), complaint.text});
  };
  for (const Complaint& complaint : check_values(reading.config)) {
    if (is_in(reading.broken, complaint.keys[0])) continue;
    add(complaint);
    reading.broken.insert(complaint.keys[0]);
  }
  if (!document.complete) return;
  const auto known = [&](const std::string& key) {
    return !is_in(reading.broken, key) && !is_left_to_checkpoint(reading, key);
  };
  for (const Complaint& complaint : check_combinations(reading.config, world_size, known)) {
    add(complaint);
  }
}

void resolve_known_autos(Reading& reading) {
  ModelConfig resolved = reading.config.model;
  resolve_autos(resolved);
  const auto left = [&](const char* key) { return is_left_to_checkpoint(reading, key); };
  ModelConfig& model = reading.config.model;
  const bool heads_left = left("model.num_attention_heads");
  if (!heads_left && !left("model.num_key_value_heads")) {
    model.num_key_value_heads = resolved.num_key_value_heads;
  }
  if (!heads_left && !left("model.head_dim") && !left("model.hidden_size")) {
    model.head_dim = resolved.head_dim;
  }
}

Reading read_document(const Document& document) {
  Reading reading = read_config(document.root);
  reading.issues.insert(reading.issues.begin(), document.issues.begin(), document.issues.end());
  return reading;
}

RunConfig finish(const Document& document, int world_size) {
  Reading reading = read_document(document);
  judge(document, reading, world_size);
  if (!reading.issues.empty()) throw_all(std::move(reading.issues));
  resolve_known_autos(reading);
  return std::move(reading.config);
}

/// The sections that describe a model, as a document.
Document model_document(const RunConfig& config, const std::string& origin) {
  Document document = parse_document(to_yaml(config), origin, Lines::kNone);
  std::erase_if(document.root.children, [](const Value& section) {
    return section.key != "model" && section.key != "moe";
  });
  return document;
}

}  // namespace

RunConfig load_config(const std::string& path, const std::vector<std::string>& sets,
                      int world_size) {
  return finish(read_sources(path, sets), world_size);
}

RunConfig load_config(const std::string& path, const std::vector<std::string>& sets, int world_size,
                      const RunConfig& base, const std::string& base_origin) {
  Document written = read_sources(path, sets);
  Document document = model_document(base, base_origin);
  overlay(document.root, std::move(written.root));
  document.issues = std::move(written.issues);
  document.complete = written.complete;
  return finish(document, world_size);
}

RunConfig parse_config(const std::string& text, const std::string& origin) {
  return finish(read_text(text, origin), 0);
}

void resolve_autos(ModelConfig& model) {
  if (model.num_key_value_heads == kAuto) model.num_key_value_heads = model.num_attention_heads;
  if (model.head_dim == kAuto) model.head_dim = model.hidden_size / model.num_attention_heads;
}

std::vector<std::string> validate(const RunConfig& config, int world_size) {
  std::vector<std::string> errors;
  std::set<std::string> broken;
  for (const Complaint& complaint : check_values(config)) {
    errors.push_back(complaint.text);
    broken.insert(complaint.keys[0]);
  }
  const auto known = [&](const std::string& key) { return !is_in(broken, key); };
  for (const Complaint& complaint : check_combinations(config, world_size, known)) {
    errors.push_back(complaint.text);
  }
  return errors;
}

}  // namespace switchyard
