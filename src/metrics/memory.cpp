#include "metrics/memory.h"

#include <fstream>
#include <string>

namespace switchyard {
namespace {

// A line of /proc/self/status reads `VmHWM:     2168 kB`. Not getrusage: its
// ru_maxrss starts from the peak of the process that launched this one.
int64_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key)) return std::stoll(line.substr(key.size())) * 1024;
  }
  return 0;
}

}  // namespace

int64_t current_rss_bytes() { return status_bytes("VmRSS:"); }

int64_t peak_rss_bytes() { return status_bytes("VmHWM:"); }

}  // namespace switchyard
