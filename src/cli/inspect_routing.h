#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"
#include "distributed/runtime.h"

namespace switchyard {

/// `inspect --routing`: its flags beside those of `inspect`.
struct InspectRoutingFlags {
  std::string checkpoint, data, split = "val", precision = "fp32", domain, out;
  int64_t sequence_length = 0, batches = 0, sampled_tokens = 1024;
  bool json = false;
};

/// Diagnoses the routing of a checkpoint on a split, prints it on rank 0's stdout and saves
/// it as JSON. Collective. Throws ConfigError for wrong flags, a model without MoE layers or
/// data of another tokenizer, DataError for a file.
ExitCode inspect_routing(const InspectRoutingFlags& flags, const Runtime& runtime);

/// Where it is saved unless --out says so: routing-step-00000020.json in the run's folder
/// (or beside a step folder that is in none), never inside a checkpoint, whose files are
/// all covered by digests. "" for a Hugging Face folder: it belongs to others.
std::string routing_file(const std::string& checkpoint_path, int64_t step);

}  // namespace switchyard
