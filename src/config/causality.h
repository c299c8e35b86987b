#pragma once

#include <string>
#include <vector>

#include "config/run_config.h"

namespace switchyard {

/// A setting by which what happens to a token depends on other tokens than those before
/// it in its sequence.
struct CrossTokenSetting {
  std::vector<std::string> keys;  // the one to change first
  std::string text;               // "`moe.router.type` expert_choice lets ..."
  std::string way_out;            // "use ..."
};

/// Those at work in training. A causal language model that has one is trained on what it
/// will not see when it generates, hence `moe.allow_noncausal`.
std::vector<CrossTokenSetting> cross_token_training(const MoeConfig& moe);

/// Those at work in evaluation and generation: there they leak later tokens into earlier
/// ones, and, in a batch, one request into another ("Stealing User Prompts from Mixture of
/// Experts", arXiv:2410.22884).
std::vector<CrossTokenSetting> cross_token_evaluation(const MoeConfig& moe);

}  // namespace switchyard
