#include "train/program_memory.h"

#include "config/load_config.h"
#include "distributed/solo_communicator.h"
#include "metrics/memory.h"
#include "ops/gemm_peak.h"
#include "train/train_step.h"

namespace switchyard {
namespace {

RunConfig smallest_config(at::ScalarType compute) {
  RunConfig config;
  config.model.vocab_size = 64;
  config.model.hidden_size = 32;
  config.model.num_hidden_layers = 2;
  config.model.num_attention_heads = 2;
  config.model.intermediate_size = 64;
  config.moe.layers = "last:1";
  config.moe.expert_intermediate_size = 32;
  config.data.sequence_length = 32;
  config.train.global_batch_size = config.train.micro_batch_size = 1;
  config.train.precision = compute == at::kFloat ? "fp32" : "bf16";
  config.train.threads = 1;
  resolve_autos(config.model);
  return config;
}

SampleBatch one_sample(int64_t length) {
  SampleBatch samples;
  samples.count = 1;
  samples.length = length;
  samples.tokens.assign(length + 1, 0);
  samples.order = {0};
  samples.source = {0};
  samples.valid = {length};
  return samples;
}

}  // namespace

int64_t measure_program_bytes(at::ScalarType compute) {
  const RunConfig config = smallest_config(compute);
  FlightRecord record(/*rank=*/0, /*world_size=*/1);
  Session session({make_solo_communicator("world"), make_solo_communicator("expert parallel"),
                   make_solo_communicator("expert data parallel")},
                  record, /*local_ranks=*/1, config);
  train_step(session,
             {make_micro_batch(one_sample(config.data.sequence_length), config, /*eos=*/0)});
  measure_gemm_peak(compute);  // a run does, too
  return current_rss_bytes();
}

}  // namespace switchyard
