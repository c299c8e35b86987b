#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/model_source.h"

namespace switchyard {

/// Some tokens that a model is tried on.
struct SampleTokens {
  std::vector<int64_t> tokens;
  int64_t eos = 0;
  std::string origin;  // what they are, for people
};

/// At most `count` tokens (none for 0) in the model's own vocabulary: the first ones of the data
/// folder `data_dir` (its val split, or train where there is none); without a folder ("") the
/// opening of Pride and Prejudice in the model's tokenizer; and for a model without a
/// tokenizer that is built in, uniform draws from its vocabulary. Local; the same on every
/// rank. Throws ConfigError when the folder is of another tokenizer than the model or its
/// vocabulary larger than the model's, DataError for a folder that cannot be read.
SampleTokens sample_tokens(const ModelSource& model, const std::string& data_dir, int64_t count,
                           uint64_t seed);

}  // namespace switchyard
