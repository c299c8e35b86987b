#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/file.h"
#include "metrics/step_metrics.h"

namespace switchyard {

/// A record as a flat JSON object: what all that is written of a run has as its keys.
nlohmann::ordered_json step_record(const StepMetrics& metrics);
nlohmann::ordered_json eval_record(const EvalMetrics& metrics);

/// One line of metrics.jsonl, without the newline: a flat JSON object. Numbers
/// are written with as many digits as it takes to read them back bit-equal;
/// NaN and infinities, which JSON lacks, are null.
std::string step_json(const StepMetrics& metrics);

/// The same for an evaluation: `step, eval, loss, perplexity, bits_per_byte, tokens`.
std::string eval_json(const EvalMetrics& metrics);

/// Appends to metrics.jsonl, one write per line, so that a run killed at any
/// moment leaves whole lines. The file is made if it is not there; its folder
/// must be. Throws DataError with the path when the file cannot be written.
/// For one writer: rank 0.
class JsonlWriter {
 public:
  explicit JsonlWriter(const std::string& path) : file_(path, OpenMode::kAppend) {}

  void append(const StepMetrics& metrics) { append_line(step_json(metrics)); }
  void append(const EvalMetrics& metrics) { append_line(eval_json(metrics)); }

 private:
  void append_line(const std::string& line);

  FileWriter file_;
};

/// What a run resumed at `step` does to the metrics of the run before: removes
/// every record of a later step, and lines that are not a record (a torn last
/// line, as a power cut leaves). Records kept stay byte for byte; the file is
/// replaced atomically. No file: nothing to do. Throws DataError if it cannot be
/// read or replaced.
void truncate_after_step(const std::string& path, int64_t step);

}  // namespace switchyard
