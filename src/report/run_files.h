#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace switchyard {

// What stands beside metrics.jsonl in a run's folder, as the page's model has it: of what the files
// hold only the keys that the page knows, each of its type, so that a file of another version or of
// another hand can leave a gap in the page and nothing worse. A file that is not there is null, one
// that cannot be read null with a remark in `notes`.

/// run.json: names, layout, parameters, planned bytes, starts.
nlohmann::ordered_json read_run_facts(const std::string& folder, std::vector<std::string>& notes);

/// routing.json: exchange matrix, top tokens, router logits.
nlohmann::ordered_json read_routing(const std::string& folder, std::vector<std::string>& notes);

/// config.yaml as pairs of `key.path` and value, in the file's order. Keys need not be known.
nlohmann::ordered_json read_settings(const std::string& folder, std::vector<std::string>& notes);

}  // namespace switchyard
