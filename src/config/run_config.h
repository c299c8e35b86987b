#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

// Every knob of a run, as plain values. The text that users read for each key
// (unit, meaning, advice, allowed values) is in config/fields.h; the defaults are here.

namespace switchyard {

/// A count that may be left to the program: `auto` in YAML, 0 here.
inline constexpr int64_t kAuto = 0;

struct RunSection {
  std::string name = "run";
  std::string dir = "runs";
  int64_t seed = 1234;
  bool tensorboard = true;
  bool operator==(const RunSection&) const = default;
};

struct DataSource {
  std::string path;
  double weight = 1.0;
  std::string name;
  bool operator==(const DataSource&) const = default;
};

struct DataConfig {
  std::vector<DataSource> path;  // a plain string in YAML is one source of weight 1
  int64_t sequence_length = 256;
  bool mask_documents = false;
  bool operator==(const DataConfig&) const = default;
};

struct RopeScalingConfig {
  std::string type = "none";  // none | linear | llama3
  double factor = 1.0;
  double low_freq_factor = 1.0;  // the rest: llama3
  double high_freq_factor = 4.0;
  int64_t original_max_position_embeddings = 8192;
  bool operator==(const RopeScalingConfig&) const = default;
};

struct ModelConfig {
  int64_t vocab_size = kAuto;
  int64_t hidden_size = 256;
  int64_t num_hidden_layers = 4;
  int64_t num_attention_heads = 8;
  int64_t num_key_value_heads = kAuto;  // num_attention_heads
  int64_t head_dim = kAuto;             // hidden_size / num_attention_heads
  int64_t intermediate_size = 1024;
  std::string ffn = "swiglu";  // swiglu | geglu | gelu | relu
  double dropout = 0.0;
  double init_std = 0.02;
  double rope_theta = 10000.0;
  double partial_rotary_factor = 1.0;
  RopeScalingConfig rope_scaling;
  std::optional<int64_t> sliding_window;  // none: attention reaches back to the start
  double rms_norm_eps = 1e-5;
  std::string qk_norm = "none";        // none | head | full
  bool attention_bias = false;         // of the query, key and value projections
  bool attention_output_bias = false;  // of the output projection
  bool tie_word_embeddings = false;
  bool operator==(const ModelConfig&) const = default;
};

struct NoisyTopKConfig {
  double noise_eps = 0.01;
  int64_t groups = 1;            // of a hierarchical mixture; 1: flat
  int64_t groups_per_token = 1;  // hierarchical: k of the first level
  bool operator==(const NoisyTopKConfig&) const = default;
};

struct ExpertChoiceConfig {
  std::optional<double> capacity_factor;         // none: moe.top_k
  std::optional<int64_t> max_experts_per_token;  // none: any number
  bool operator==(const ExpertChoiceConfig&) const = default;
};

struct BaseConfig {
  double epsilon = 1e-3;
  bool operator==(const BaseConfig&) const = default;
};

struct SinkhornConfig {
  int64_t iterations = 3;
  bool operator==(const SinkhornConfig&) const = default;
};

struct ReinforceConfig {
  double coef = 1.0;
  double baseline_decay = 0.9;
  bool operator==(const ReinforceConfig&) const = default;
};

struct HashConfig {
  std::string method = "random";  // random | balanced | bigram | previous | position
  int64_t parts = 1;              // MultiHash: experts are split into so many parts
  bool operator==(const HashConfig&) const = default;
};

struct DSelectKConfig {
  double gamma = 1.0;
  double entropy_coef = 1e-6;
  bool operator==(const DSelectKConfig&) const = default;
};

struct SparseOtConfig {
  double gamma = 1.0;
  int64_t iterations = 20;
  double lr = 0.01;
  std::string limit = "expert";     // expert | token: whose nonzeros are limited
  std::string weights = "softmax";  // softmax | plan
  bool operator==(const SparseOtConfig&) const = default;
};

struct RecurrentConfig {
  int64_t hidden_size = 256;
  bool operator==(const RecurrentConfig&) const = default;
};

struct SparseMixerConfig {
  double eps = 0.01;
  std::string version = "v2";                  // v2 | v2_star
  std::string expert_gradient = "algorithm1";  // algorithm1 | scaled
  bool operator==(const SparseMixerConfig&) const = default;
};

struct DenseTrainingConfig {
  std::string inference = "top_k";  // top_k | threshold | all
  double threshold = 0.1;
  bool operator==(const DenseTrainingConfig&) const = default;
};

struct SequenceConfig {
  int64_t clusters = 64;
  int64_t embedding_size = 64;
  double temperature = 0.05;
  bool operator==(const SequenceConfig&) const = default;
};

struct RouterConfig {
  std::string type = "topk";      // the words are in fields.h, the classes in moe/factory.cpp
  std::string score = "softmax";  // softmax | sigmoid
  bool normalize = true;
  double scaling_factor = 1.0;
  double jitter_eps = 0.0;
  double noise_std = 0.0;
  double logit_normalization = 0.0;    // 0: off
  double expert_dropout = 0.0;         // whole experts hidden from the choice
  std::string exploration = "argmax";  // switch: argmax | sample | input_dropout
  double input_dropout = 0.1;          // switch: of exploration input_dropout
  int64_t reroute_choices = 0;         // further choices for a token that found no slot
  bool selection_bias = false;         // loss-free balancing: bias added for the choice only
  double bias_update_rate = 0.001;
  int64_t n_group = 1;
  int64_t topk_group = 1;
  std::string group_score = "top2_sum";  // max | top2_sum
  std::string second_expert_policy =
      "random";  // gshard: all | none | random | threshold | sampling
  double second_threshold = 0.2;
  std::string normalize_gate = "before_drop";  // gshard: before_drop | after_drop
  NoisyTopKConfig noisy_topk = {};
  ExpertChoiceConfig expert_choice = {};
  BaseConfig base = {};
  SinkhornConfig sinkhorn = {};
  ReinforceConfig reinforce = {};
  HashConfig hash = {};
  DSelectKConfig dselect_k = {};
  SparseOtConfig sparse_ot = {};
  RecurrentConfig recurrent = {};
  SparseMixerConfig sparsemixer = {};
  DenseTrainingConfig dense_training = {};
  SequenceConfig sequence = {};
  bool operator==(const RouterConfig&) const = default;
};

struct CapacityConfig {
  std::optional<double> factor;       // none: dropless
  std::optional<double> eval_factor;  // none: dropless in evaluation and generation
  std::string scope = "group";        // group | rank
  std::string priority = "position";  // position | choice | probability | probability_sum | random
  std::optional<double> device_factor = {};  // none: no budget per group of experts
  double protected_fraction = 0.0;  // device_factor: share of the sequences that never drop
  std::string round = "ceil";       // ceil | floor | nearest
  bool counts_k = true;
  int64_t min = 4;
  int64_t multiple_of = 1;
  bool operator==(const CapacityConfig&) const = default;
};

/// A coefficient that follows the share of dropped tokens (Skywork-MoE).
struct AdaptiveConfig {
  double rate = 0.0;  // 0: off
  double beta = 0.99;
  double max = 0.01;
  bool operator==(const AdaptiveConfig&) const = default;
};

struct BalanceConfig {
  std::string type = "switch";  // the words are in fields.h, the formulas in loss/
  double coef = 0.01;
  std::string scope = "group";         // group | global | global_lagged | micro_batch
  std::string layer_reduce = "mean";   // mean | sum
  double threshold = 0.0;              // global_entropy: experts at least, as a natural logarithm
  std::optional<int64_t> domain = {};  // none: all tokens
  AdaptiveConfig adaptive = {};
  bool operator==(const BalanceConfig&) const = default;
};

struct ZLossConfig {
  double coef = 0.001;
  std::string layer_reduce = "mean";
  bool operator==(const ZLossConfig&) const = default;
};

struct SharedExpertsConfig {
  int64_t num = 0;
  int64_t intermediate_size = 512;  // of each one
  bool gated = false;
  bool operator==(const SharedExpertsConfig&) const = default;
};

struct MoeConfig {
  std::string layers = "all";  // all | none | every:N | last:N | [1, 3] (kept as the text "1,3")
  int64_t num_experts = 8;
  int64_t top_k = 2;
  int64_t expert_intermediate_size = 512;
  bool allow_noncausal = false;
  double expert_dropout = 0.0;
  std::string expert_init = "independent";  // independent | identical | zero_output
  int64_t group_sequences = 1;
  RouterConfig router;
  CapacityConfig capacity;
  std::vector<BalanceConfig> balance = {
      BalanceConfig{}};  // a single mapping in YAML is a list of one
  ZLossConfig z_loss;
  SharedExpertsConfig shared_experts;
  bool operator==(const MoeConfig&) const = default;
};

struct ParallelConfig {
  int64_t expert = 1;
  std::string order = "expert_inner";  // expert_inner | data_inner
  int64_t overlap_chunks = 1;
  std::string overlap_grad_reduce = "auto";   // auto | on | off
  std::string overlap_param_gather = "auto";  // auto | on | off
  std::string gpu_transport = "nccl";         // nccl | mpi
  bool operator==(const ParallelConfig&) const = default;
};

struct ZeroConfig {
  int64_t stage = 1;
  bool operator==(const ZeroConfig&) const = default;
};

struct ScheduleConfig {
  std::string type = "cosine";  // constant | linear | cosine | wsd | inverse_sqrt
  int64_t warmup_steps = 50;
  double min_lr_ratio = 0.1;
  double decay_fraction = 0.2;  // wsd: the last share of the steps
  bool operator==(const ScheduleConfig&) const = default;
};

struct OptimConfig {
  std::string type = "adamw";
  double lr = 1e-3;
  std::vector<double> betas = {0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.1;
  double grad_clip = 1.0;                  // 0: off
  std::map<std::string, double> lr_scale;  // name pattern (with *): factor
  ScheduleConfig schedule;
  bool operator==(const OptimConfig&) const = default;
};

struct SpikeConfig {
  std::string action = "none";
  int64_t window = 128;
  double sigmas = 6.0;
  int64_t skip_steps = 100;
  bool operator==(const SpikeConfig&) const = default;
};

struct TrainConfig {
  int64_t steps = 400;
  std::string device = "cpu";  // cpu | cuda
  int64_t threads = kAuto;
  int64_t global_batch_size = 8;
  int64_t micro_batch_size = 4;
  std::string precision = "auto";  // auto | fp32 | bf16
  std::string recompute = "none";
  int64_t eval_interval = 100;
  int64_t eval_batches = 8;
  int64_t log_interval = 10;
  std::vector<std::string> freeze;  // name patterns
  int64_t max_skipped_steps = 5;
  int64_t check_replicas_interval = 0;
  SpikeConfig spike;
  bool operator==(const TrainConfig&) const = default;
};

struct CheckpointConfig {
  int64_t interval = 100;
  int64_t keep = 3;
  bool async = true;
  bool read_back = true;
  std::string on_failure = "stop";
  std::optional<std::string> load_from;
  bool load_optimizer_state = false;
  bool operator==(const CheckpointConfig&) const = default;
};

struct WatchdogConfig {
  int64_t timeout_seconds = 300;
  int64_t save_timeout_seconds = 1800;
  bool operator==(const WatchdogConfig&) const = default;
};

struct RunConfig {
  RunSection run;
  DataConfig data;
  ModelConfig model;
  MoeConfig moe;
  ParallelConfig parallel;
  ZeroConfig zero;
  OptimConfig optim;
  TrainConfig train;
  CheckpointConfig checkpoint;
  WatchdogConfig watchdog;
  bool operator==(const RunConfig&) const = default;
};

}  // namespace switchyard
