#include "metrics/run_record.h"

#include <array>
#include <ctime>
#include <nlohmann/json.hpp>

#include "base/file.h"

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

Json earlier_starts(const std::string& path) {
  if (!path_exists(path)) return Json::array();
  const Json json = Json::parse(read_file(path), /*cb=*/nullptr, /*allow_exceptions=*/false);
  const bool tells = json.is_object() && json.contains("started") && json["started"].is_array();
  return tells ? json["started"] : Json::array();
}

}  // namespace

void write_run_record(const std::string& path, const RunRecord& record) {
  Json started = earlier_starts(path);
  for (const RunStart& start : record.started) {
    started.push_back({{"time", start.time},
                       {"step", start.step},
                       {"world", start.world},
                       {"hosts", start.hosts},
                       {"resumed_from", start.resumed_from}});
  }
  Json bytes = Json::object(), data = Json::array();
  for (const auto& [part, n] : record.planned_bytes_per_rank) bytes[part] = n;
  for (const RunData& source : record.data) {
    data.push_back({{"name", source.name}, {"path", source.path}, {"tokens", source.tokens}});
  }
  const Json json = {{"switchyard", SWITCHYARD_VERSION},
                     {"name", record.name},
                     {"started", started},
                     {"steps", record.steps},
                     {"parameters_total", record.parameters_total},
                     {"parameters_active", record.parameters_active},
                     {"flops_per_token", record.flops_per_token},
                     {"peak_flops", record.peak_flops},
                     {"ranks", record.ranks},
                     {"expert", record.expert},
                     {"zero", record.zero},
                     {"precision", record.precision},
                     {"planned_bytes_per_rank", bytes},
                     {"moe_layers", record.moe_layers},
                     {"num_experts", record.num_experts},
                     {"top_k", record.top_k},
                     {"data", data}};
  // Paths and host names need not be valid UTF-8.
  write_file_atomically(path, json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text.data();
}

}  // namespace switchyard
