#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "data/training_data.h"
#include "train/routing_census.h"
#include "train/session.h"
#include "train/token_census.h"

namespace switchyard {

/// routing.json of a run: who sends how much to whom, which tokens each expert takes, and
/// what the routers' logits are like (metrics/routing_record.h).
class RoutingFile {
 public:
  /// `session` and `data` outlive this.
  RoutingFile(const Session& session, const TrainingData& data, const std::string& path)
      : session_(session), data_(data), path_(path) {}

  /// Replaces the file, on rank 0, by what is known at this step: `step` of the last recorded
  /// step, empty if there has been none, `tokens` of the last evaluation. A model without MoE
  /// layers has no such file. Throws DataError when it cannot be written. Collective.
  void write(const RoutingCensus& step, const TokenCensus& tokens);

 private:
  void add_texts(std::vector<ExpertTokens>& experts);
  std::string text_of(int64_t id);

  const Session& session_;
  const TrainingData& data_;
  std::string path_;
  std::unique_ptr<Tokenizer> tokenizer_;  // made when first needed, on rank 0
};

}  // namespace switchyard
