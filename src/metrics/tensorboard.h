#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/file.h"
#include "metrics/histogram.h"

namespace switchyard {

/// CRC-32C (Castagnoli; RFC 3720 section 12.1 and appendix B.4).
uint32_t crc32c(std::string_view bytes);

/// Writes TensorBoard's event files: a TFRecord per event,
///
///   u64 length | u32 masked CRC-32C of the length | event | u32 masked CRC-32C of the event
///
/// little-endian, where an event is a protobuf message of tensorflow/core/util/event.proto.
/// One write per event, so that a run killed at any moment leaves whole events but for the
/// last. For one writer: rank 0.
class TensorBoardWriter {
 public:
  /// Starts a new file in `folder`, which exists, named to be read after those that are
  /// there: a run that goes on has several. Readers forget the events of steps after
  /// `last_step`. Throws DataError when the file cannot be written.
  TensorBoardWriter(const std::string& folder, int64_t last_step);

  /// Readers forget the events of steps after `last_step`.
  void forget_after(int64_t last_step);

  /// The numbers of a record (see metrics/jsonl.h) as scalars named PREFIX and key, rounded
  /// to float32, as TensorBoard keeps them. `step` is the step; text, lists and what is not
  /// finite are left out.
  void add_scalars(const nlohmann::ordered_json& record, const std::string& prefix);

  /// Sums, which histograms here do not know, are those of the middles of the bins.
  void add_histogram(int64_t step, const std::string& tag, const Histogram& histogram);

 private:
  void write(std::string_view event);

  FileWriter file_;
};

}  // namespace switchyard
