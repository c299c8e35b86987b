#include "ops/waves.h"

#include <utility>

#include "ops/blocked_gemm.h"

namespace switchyard {

std::vector<Wave> waves_of(const std::vector<int64_t>& rows_E, int64_t size) {
  std::vector<Wave> waves;
  Wave wave;
  const auto finish = [&](int64_t next_group) {
    const int64_t next_row = wave.row + wave.rows;
    if (wave.rows > 0) waves.push_back(std::move(wave));
    wave = {next_group, next_row, 0, {}};
  };
  for (size_t e = 0; e < rows_E.size(); ++e) {
    const auto group = static_cast<int64_t>(e);
    if (wave.rows + rows_E[e] > size) finish(group);
    int64_t left = rows_E[e];
    for (; next_share(left, size) < left; left -= size) {
      wave.rows = size;
      wave.rows_E = {size};
      finish(group);
    }
    wave.rows += left;
    wave.rows_E.push_back(left);
  }
  finish(0);
  return waves;
}

}  // namespace switchyard
