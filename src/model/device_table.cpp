#include "model/device_table.h"

#include <unistd.h>

#include <algorithm>

namespace switchyard {

const std::vector<Device>& known_devices() {
  static const std::vector<Device> devices = {
      {"a100-40", 40'000'000'000, 312e12, "NVIDIA A100 data sheet, SXM 40 GB"},
      {"a100", 80'000'000'000, 312e12, "NVIDIA A100 data sheet, SXM 80 GB"},
      {"h100", 80'000'000'000, 989e12, "NVIDIA H100 data sheet, SXM 80 GB"},
      {"h200", 141'000'000'000, 989e12, "NVIDIA H200 data sheet, SXM 141 GB"},
      {"b200", 180'000'000'000, 2250e12, "NVIDIA DGX B200 data sheet, an eighth"},
  };
  return devices;
}

std::optional<Device> planned_device(const std::string& name, int64_t ranks_per_host) {
  if (name == "cpu") {
    const int64_t host = sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGE_SIZE);
    return Device{"cpu", host / std::max<int64_t>(1, ranks_per_host), 0, "this host's memory"};
  }
  const auto& devices = known_devices();
  const auto found = std::ranges::find(devices, name, &Device::name);
  if (found == devices.end()) return std::nullopt;
  return *found;
}

}  // namespace switchyard
