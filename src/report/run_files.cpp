#include "report/run_files.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "config/document.h"

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;
using nlohmann::json;

constexpr size_t kMaxItems = 4096;  // of any list here
constexpr uint64_t kMaxFileBytes = uint64_t{64} << 20;

json read_if_there(const std::string& folder, const std::string& name,
                   std::vector<std::string>& notes) {
  const std::string path = folder + "/" + name;
  if (!path_exists(path)) return nullptr;
  try {
    json value = read_json_file(path, {.bytes = kMaxFileBytes});
    if (value.is_object()) return value;
    notes.push_back(name + " is not a JSON object");
  } catch (const DataError& error) {
    notes.push_back(name + " could not be read: " + error.what());
  }
  return nullptr;
}

/// The member if it is there, else null. Null stands for every wrong type.
json member(const json& object, const std::string& key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? json() : *found;
}

Json number(const json& object, const std::string& key) {
  const json value = member(object, key);
  if (!value.is_number()) return nullptr;
  return value;
}

Json text(const json& object, const std::string& key) {
  const json value = member(object, key);
  return value.is_string() ? Json(value) : Json();
}

/// The numbers of a list, null for other things in it.
Json numbers(const json& list) {
  Json result = Json::array();
  if (!list.is_array()) return result;
  for (size_t i = 0; i < std::min(kMaxItems, list.size()); ++i) {
    result.push_back(list[i].is_number() ? Json(list[i]) : Json());
  }
  return result;
}

/// `of` each item of a list.
template <typename Of>
Json each(const json& list, Of&& of) {
  Json result = Json::array();
  if (!list.is_array()) return result;
  for (size_t i = 0; i < std::min(kMaxItems, list.size()); ++i) result.push_back(of(list[i]));
  return result;
}

Json start_of(const json& start) {
  const Json hosts = each(member(start, "hosts"), [](const json& host) {
    return host.is_string() ? Json(host) : Json("?");
  });
  return {{"time", text(start, "time")},
          {"step", number(start, "step")},
          {"world", number(start, "world")},
          {"hosts", hosts},
          {"resumed_from", text(start, "resumed_from")}};
}

Json expert_of(const json& expert) {
  return {{"copies", number(expert, "copies")},
          {"top", each(member(expert, "top"), [](const json& token) -> Json {
             return {{"id", number(token, "id")},
                     {"text", text(token, "text")},
                     {"copies", number(token, "copies")},
                     {"share", number(token, "share")}};
           })}};
}

Json top_tokens_of(const json& top) {
  if (!top.is_object()) return nullptr;
  return {{"split", text(top, "split")},
          {"tokens", number(top, "tokens")},
          {"layers", each(member(top, "layers"), [](const json& layer) -> Json {
             return {{"layer", number(layer, "layer")},
                     {"experts", each(member(layer, "experts"), expert_of)}};
           })}};
}

/// Null unless it is a square of numbers.
Json exchange_of(const json& exchange) {
  const Json rows = each(member(exchange, "rows"), numbers);
  const bool square = std::all_of(rows.begin(), rows.end(),
                                  [&](const Json& row) { return row.size() == rows.size(); });
  if (rows.empty() || !square) return nullptr;
  return {{"ranks_per_cell", number(exchange, "ranks_per_cell")}, {"rows", rows}};
}

Json logits_of(const json& logits) {
  return each(member(logits, "layers"), [](const json& layer) -> Json {
    return {{"layer", number(layer, "layer")},
            {"edges", numbers(member(layer, "edges"))},
            {"counts", numbers(member(layer, "counts"))}};
  });
}

/// `[0.9, 0.95]`, and what has no nested mapping.
std::string inline_text(const Value& value) {
  if (value.kind == Value::Kind::kScalar) return value.scalar;
  if (value.kind == Value::Kind::kNull) return "null";
  std::string items;
  for (const Value& child : value.children) {
    items += (items.empty() ? "" : ", ") + inline_text(child);
  }
  return "[" + items + "]";
}

void flatten(const Value& value, const std::string& path, Json& pairs) {
  const bool nested = std::any_of(value.children.begin(), value.children.end(),
                                  [](const Value& v) { return v.kind == Value::Kind::kMap; });
  if (value.kind == Value::Kind::kMap && !value.children.empty()) {
    for (const Value& child : value.children) {
      flatten(child, path.empty() ? child.key : path + "." + child.key, pairs);
    }
  } else if (value.kind == Value::Kind::kList && nested) {
    for (size_t i = 0; i < value.children.size(); ++i) {
      flatten(value.children[i], path + "[" + std::to_string(i) + "]", pairs);
    }
  } else if (!path.empty() && pairs.size() < kMaxItems) {
    const bool empty_map = value.kind == Value::Kind::kMap;
    pairs.push_back({path, empty_map ? "{}" : inline_text(value)});
  }
}

}  // namespace

Json read_run_facts(const std::string& folder, std::vector<std::string>& notes) {
  const json run = read_if_there(folder, "run.json", notes);
  if (run.is_null()) return nullptr;
  Json facts = Json::object();
  for (const char* key : {"switchyard", "name", "precision"}) facts[key] = text(run, key);
  for (const char* key : {"steps", "parameters_total", "parameters_active", "flops_per_token",
                          "peak_flops", "ranks", "expert", "zero", "num_experts", "top_k"}) {
    facts[key] = number(run, key);
  }
  facts["moe_layers"] = numbers(member(run, "moe_layers"));
  facts["started"] = each(member(run, "started"), start_of);
  facts["data"] = each(member(run, "data"), [](const json& source) -> Json {
    return {{"name", text(source, "name")},
            {"path", text(source, "path")},
            {"tokens", number(source, "tokens")}};
  });
  const json planned = member(run, "planned_bytes_per_rank");
  Json bytes = Json::object();
  for (const char* key : {"parameters", "gradients", "optimizer", "activations", "exchange",
                          "checkpoint", "allocator", "program", "total"}) {
    bytes[key] = number(planned, key);
  }
  facts["planned_bytes_per_rank"] = planned.is_object() ? bytes : Json();
  return facts;
}

Json read_routing(const std::string& folder, std::vector<std::string>& notes) {
  const json routing = read_if_there(folder, "routing.json", notes);
  if (routing.is_null()) return nullptr;
  return {{"step", number(routing, "step")},
          {"ranks", number(routing, "ranks")},
          {"exchange", exchange_of(member(routing, "exchange"))},
          {"top_tokens", top_tokens_of(member(routing, "top_tokens"))},
          {"router_logits", logits_of(member(routing, "router_logits"))}};
}

Json read_settings(const std::string& folder, std::vector<std::string>& notes) {
  const std::string path = folder + "/config.yaml";
  if (!path_exists(path)) return nullptr;
  Json pairs = Json::array();
  try {
    const Document document = parse_document(read_file(path, 1 << 20), path, Lines::kNumbered);
    if (!document.issues.empty()) {
      const Issue& first = document.issues.front();
      notes.push_back("config.yaml has mistakes: " + to_string(first.place) + ": " + first.text);
    }
    flatten(document.root, "", pairs);
  } catch (const DataError& error) {
    notes.push_back(std::string("config.yaml could not be read: ") + error.what());
  }
  return pairs;
}

}  // namespace switchyard
