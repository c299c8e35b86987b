#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace switchyard {

/// A device that a rank may have for itself.
struct Device {
  std::string name;
  int64_t memory_bytes = 0;  // as published, in powers of ten
  double peak_flops = 0;     // dense bfloat16 per second; 0: not published
  std::string source;
};

/// Share of a device's memory that plans leave free: for the CUDA context and the workspaces
/// of libraries, and for what allocators cannot hand out again.
inline constexpr double kHeadroom = 0.1;

/// The devices known by name, `cpu` left out: that is this host, see planned_device.
const std::vector<Device>& known_devices();

/// The one of that name; `cpu` is an equal share of this host's memory for each of
/// `ranks_per_host` ranks. None: unknown.
std::optional<Device> planned_device(const std::string& name, int64_t ranks_per_host);

}  // namespace switchyard
