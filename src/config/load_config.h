#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/run_config.h"

// From YAML to a checked RunConfig and back. Mistakes of the user are reported
// all at once: a ConfigError has one line for each, sorted by file and line:
//
//   run.yaml:12: unknown key `model.hiden_size`; did you mean `model.hidden_size`?
//   --set moe.top_k=0: `moe.top_k` must be at least 1, got 0
//   (default): `train.global_batch_size` 8 is not a multiple of ...

namespace switchyard {

/// Reads CONFIG.yaml with its `extends` chain (paths relative to the file that
/// extends; later wins; mappings merge key by key, lists replace), applies
/// `--set key.path=value` (the value is YAML), checks everything that can be
/// known without the data, and resolves the autos that need nothing else
/// (num_key_value_heads, head_dim).
///
///   world_size  ranks of this run; 0: unknown, and the checks against it are
///               skipped
///
/// With `checkpoint.load_from`, keys left out of `model` and `moe` come from
/// that checkpoint: checks and autos that need one of them are left out too, until
/// load_config is called again with that checkpoint's config.
///
/// Throws ConfigError with all errors, and DataError for a file that is missing
/// or unreadable (a missing `extends` names both files).
RunConfig load_config(const std::string& path, const std::vector<std::string>& sets,
                      int world_size);

/// The same, with every key of `model` and `moe` that is left out taken from `base`, the
/// config of the model at `base_origin`.
RunConfig load_config(const std::string& path, const std::vector<std::string>& sets, int world_size,
                      const RunConfig& base, const std::string& base_origin);

/// The same from a text, such as a checkpoint's config.yaml; `origin` names it
/// in messages. Checks against the world are skipped.
RunConfig parse_config(const std::string& text, const std::string& origin);

/// Fills in num_key_value_heads and head_dim where they are auto.
void resolve_autos(ModelConfig& model);

/// All errors of a config that is already built, without places; empty when it
/// is valid. world_size as in load_config.
std::vector<std::string> validate(const RunConfig& config, int world_size);

/// Remarks on a valid config that are no errors: settings that have no effect,
/// that rarely are meant, or that make the numbers depend on the layout.
std::vector<std::string> advice(const RunConfig& config);

/// The keys in which two configs differ, in their order: "`model.hidden_size` is 64 here,
/// 128 there". Keys that only one has, as items of a list, are told by the list's size.
std::vector<std::string> differences(const RunConfig& ours, const RunConfig& theirs);

/// The config as YAML that parse_config reads back to an equal value
/// (--print-config, config.yaml of a run): every key, in a fixed order, doubles
/// in their shortest exact form.
std::string to_yaml(const RunConfig& config);

/// Every key with its type, default, allowed values and meaning, as text for a
/// terminal (train --help-config).
std::string config_help();

/// Decoder-layer indices in [0, num_layers) that are MoE, ascending, for
/// `moe.layers`: all, none, every:N (layers N-1, 2N-1, ...), last:N, "1,3".
/// Throws ConfigError for any other text and for a layer that is not there.
std::vector<int64_t> moe_layer_indices(const MoeConfig& moe, int64_t num_layers);

}  // namespace switchyard
