#pragma once

#include <memory>
#include <string>

#include "config/run_config.h"
#include "data/training_data.h"
#include "distributed/runtime.h"
#include "model/decoder.h"
#include "model/model_size.h"
#include "moe/router_losses.h"
#include "optim/adamw.h"
#include "optim/parameter_store.h"
#include "train/spike_guard.h"

namespace switchyard {

/// Where a run stands: all that a checkpoint holds besides tensors.
struct Progress {
  int64_t step = 0;              // optimizer steps done, skipped ones included
  int64_t updates = 0;           // of those, updates that were applied: AdamW's t
  uint64_t cursor = 0;           // samples of the global order consumed
  int64_t tokens = 0;            // target tokens trained on
  int64_t skipped = 0;           // steps left out for non-finite numbers
  int64_t skipped_in_row = 0;    // of those, the last ones without a good step between
  int64_t spikes = 0;            // steps that were spikes and left out or rolled back
  bool evaluation_owed = false;  // a stop signal has put the evaluation of `step` off
  StepCounts lagged;  // the last good step's routing counts: balance scope `global_lagged`
};

/// A model on this rank, its parameters and its place in the world: what
/// training, evaluation and generation share.
class Session {
 public:
  /// Builds the model of `config` (vocab_size resolved) on all ranks and, for training,
  /// draws its initial weights. Collective. Throws ConfigError when the layout does
  /// not fit, the sources are more than the domains that the router knows, or `train.device` is not
  /// there.
  Session(const Runtime& runtime, const RunConfig& config, Purpose purpose = Purpose::kTraining);

  /// The same in a world that is already made, with `local_ranks` of it on this host.
  /// `record` must outlive it. `device` is where the model is; the mesh takes its tensors.
  Session(Mesh mesh, FlightRecord& record, int local_ranks, const RunConfig& config,
          Purpose purpose = Purpose::kTraining, c10::Device device = at::kCPU);

  const RunConfig& config() const { return config_; }
  const Mesh& mesh() const { return mesh_; }
  /// Where parameters, router state and what is computed are.
  c10::Device device() const { return device_; }
  ParameterStore& store() { return store_; }
  const ParameterStore& store() const { return store_; }
  const Decoder& decoder() const { return *decoder_; }
  Decoder& decoder() { return *decoder_; }
  Progress& progress() { return progress_; }
  const Progress& progress() const { return progress_; }
  const ModelSize& size() const { return size_; }
  const AdamW& optimizer() const { return optimizer_; }
  SpikeGuard& spike_guard() { return spike_guard_; }
  /// What this rank is doing: phases are entered and the step is told here.
  FlightRecord& record() const { return record_; }
  bool is_root() const { return mesh_.world->rank() == 0; }

  int64_t sequences_per_rank() const {
    return config_.train.global_batch_size / mesh_.world->size();
  }
  int64_t accumulation_steps() const {
    return sequences_per_rank() / config_.train.micro_batch_size;
  }

 private:
  Session(const Runtime& runtime, const RunConfig& config, Purpose purpose, c10::Device device);

  RunConfig config_;
  FlightRecord& record_;
  Mesh mesh_;
  c10::Device device_;
  ParameterStore store_;
  std::unique_ptr<Decoder> decoder_;
  Progress progress_;
  ModelSize size_;
  AdamW optimizer_;
  SpikeGuard spike_guard_;
};

/// `train.precision` for `train.device`: float32 or bfloat16. `auto` is bfloat16 on a GPU, as all
/// that this program is built for have it, and on this processor where it multiplies it
/// (blocked_gemm.h).
at::ScalarType compute_dtype(const TrainConfig& train);

/// model.vocab_size `auto`: the data's, padded to a multiple of 64. A smaller
/// model vocabulary than the data's is a ConfigError.
void resolve_vocabulary(ModelConfig& model, int64_t data_vocab_size);

}  // namespace switchyard
