#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_reader.h"

namespace switchyard {

/// A tensor whose elements are not all the same bits in two checkpoints.
struct TensorDifference {
  std::string name;
  int64_t elements = 0;
  int64_t differing = 0;
  /// The largest |first - second|, in float64: 0 when only signs of zero differ, NaN
  /// where a NaN meets anything but the same NaN, and for dtypes that are no numbers
  /// here (FP8).
  double largest = 0;
};

/// Something besides elements that differs: "step", "state/tokens", or a tensor's
/// name with what it is in each.
struct FieldDifference {
  std::string name;
  nlohmann::ordered_json first, second;  // null: it has none
};

/// What differs in the manifests of two checkpoints.
struct ManifestDifference {
  std::vector<FieldDifference> fields;        // step, cursor, the members of state
  std::vector<FieldDifference> declarations;  // tensors of another shape, dtype or kind
  std::vector<std::string> only_in_first, only_in_second;  // tensors

  bool empty() const {
    return fields.empty() && declarations.empty() && only_in_first.empty() &&
           only_in_second.empty();
  }
};

/// Step, cursor, state and the tensors' names, shapes, dtypes and kinds. The layout,
/// the save's id, the config (which has the layout in it) and the losses and norms of the
/// last steps, which the spike guard measures by, do not count.
ManifestDifference diff_manifests(const Manifest& first, const Manifest& second);

/// Compares the elements of the tensors that both have alike, whatever the layouts,
/// bit by bit. Holds two pieces of 1 MiB at a time, and reads each byte once, against
/// its digest. Of `parts` ranks, each compares its `part`: every parts-th tensor.
/// Returns those that differ, worst first. Throws DataError that names the tensor
/// when one of the two is damaged. Local.
std::vector<TensorDifference> diff_tensors(CheckpointReader& first, CheckpointReader& second,
                                           int part = 0, int parts = 1);

/// Sorts by `largest`, NaN in front, then by the share of elements that differ.
void sort_worst_first(std::vector<TensorDifference>& tensors);

}  // namespace switchyard
