#pragma once

#include <CLI/App.hpp>
#include <memory>
#include <string>

#include "train/model_source.h"
#include "train/session.h"

namespace switchyard {

/// A model ready to evaluate or generate, and where it came from.
struct LoadedModel {
  ModelSource source;
  std::unique_ptr<Session> session;
};

/// What to do with a model whose evaluation looks across tokens (config/causality.h).
enum class CrossToken { kRefuse, kAllow };

/// Adds --device and --precision, as load_model takes them.
void add_compute_options(CLI::App& command, std::string& device, std::string& precision);

/// Loads the weights that a checkpoint argument names onto this job's ranks, whatever the run
/// that made it computed on, to compute on `device` (as train.device). The
/// experts are spread over as many ranks as divide both the job and the number
/// of experts. Collective. Throws ConfigError for a precision that is none, a device that is not
/// there and for a model that is refused, DataError when there is no valid checkpoint.
LoadedModel load_model(const Runtime& runtime, const std::string& checkpoint,
                       const std::string& device, const std::string& precision,
                       CrossToken cross_token);

/// Throws ConfigError when the data folder was made with another tokenizer than the
/// model's: numbers mean nothing on its tokens. A model without one takes any. Local.
void check_tokenizer(const ModelSource& source, const std::string& data);

}  // namespace switchyard
