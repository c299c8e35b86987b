#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "distributed/runtime.h"
#include "train/sample_tokens.h"
#include "train/upcycle.h"

namespace switchyard {

/// What an upcycling did to the function, measured.
struct UpcycleReceipt {
  double max_logit_difference = 0;       // over all sample positions and the vocabulary
  double relative_logit_difference = 0;  // norm of the difference over the first source's norm
  std::vector<double> loss_before;       // of each source: cross-entropy in nats per token
  double loss_after = 0;
  int64_t tokens = 0;  // targets that the losses are the mean of; 0: not measured
  std::string sample;  // what the tokens are
  int64_t parameters_before = 0, parameters_total = 0, parameters_active = 0;
};

/// Runs the sample through the first source, the others, and the upcycled model, in float32,
/// one after another: one model is in memory, and the logits of the first source. Logits are
/// compared with the first source's. Without tokens nothing is run, and only parameters are
/// counted; else there are two or more. Collective over the job: the ranks share the
/// sequences and the experts.
UpcycleReceipt measure_receipt(const Runtime& runtime, const std::vector<ModelSource>& sources,
                               const UpcycledModel& upcycled, const SampleTokens& sample);

/// How the model was made and what that did to it: "receipt.json", and what --json prints.
nlohmann::ordered_json receipt_json(const UpcycleReceipt& receipt, const UpcycleOptions& options,
                                    const std::vector<ModelSource>& sources,
                                    const UpcycledModel& upcycled);

/// The same for a terminal.
std::string receipt_text(const nlohmann::ordered_json& receipt);

}  // namespace switchyard
