#pragma once

#include <string>

#include "hf/export_model.h"
#include "train/model_source.h"

namespace switchyard {

/// How a model came to be, in Markdown for a model card: steps, tokens, the data's
/// fingerprint and the config of its training, and receipt.json where one is among its
/// files (upcycling writes it). A model that was imported and not trained says so.
std::string model_receipt(const ModelSource& model);

/// What export_model writes beside the tensors, receipt included.
ExportFacts export_facts(const ModelSource& model);

}  // namespace switchyard
