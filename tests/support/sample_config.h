#pragma once

#include "config/load_config.h"
#include "config/run_config.h"

namespace switchyard {

/// Two MoE layers around a dense one; all that a step draws, drops and carries along is on.
inline RunConfig sample_config() {
  constexpr int64_t kSequences = 8, kLength = 6, kVocabulary = 64, kLayers = 3;
  RunConfig config;
  config.data.path = {{"unused", 1.0, ""}};
  config.data.sequence_length = kLength;
  config.data.mask_documents = true;
  config.model.vocab_size = kVocabulary;
  config.model.hidden_size = 12;
  config.model.num_hidden_layers = kLayers;
  config.model.num_attention_heads = 2;
  config.model.num_key_value_heads = 1;
  config.model.intermediate_size = 18;
  config.model.init_std = 0.3;
  config.model.dropout = 0.1;
  config.moe.layers = "0,2";
  config.moe.num_experts = 8;
  config.moe.expert_intermediate_size = 10;
  config.moe.expert_dropout = 0.1;
  config.moe.shared_experts = {1, 6, true};
  config.moe.capacity.factor = 1.0;
  config.moe.capacity.min = 1;
  config.moe.z_loss.coef = 0.01;
  config.train.threads = 1;
  config.train.precision = "fp32";
  config.train.global_batch_size = kSequences;
  resolve_autos(config.model);
  return config;
}

}  // namespace switchyard
