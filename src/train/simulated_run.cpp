#include "train/simulated_run.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "base/random.h"
#include "config/load_config.h"
#include "data/dataset_meta.h"
#include "distributed/simulated_communicator.h"
#include "metrics/console.h"
#include "model/device_table.h"
#include "model/memory_plan.h"
#include "model/step_volumes.h"
#include "moe/dispatcher.h"
#include "optim/gradients.h"
#include "train/run_description.h"
#include "train/train_step.h"

// W ranks, EP of which share the experts; T tokens of a micro-batch, E experts, K per token, of
// width D; S rows leave this rank's tokens, R arrive at its experts.

namespace switchyard {
namespace {

using at::Tensor;

/// Work that a laptop does while someone waits.
constexpr double kMostFlops = 1e12;

/// What was built, counted and taken.
struct SimulatedStep {
  ParameterBytes held;
  int64_t rows_moved = 0;  // that leave in forward, there and back, of all micro-batches
  std::string outcome;     // one line
};

__attribute__((format(printf, 1, 2))) std::string text(const char* format, ...) {
  char line[256];
  va_list values;
  va_start(values, format);
  std::vsnprintf(line, sizeof line, format, values);
  va_end(values);
  return line;
}

/// Why the step is out of this machine's reach; "" where it is not.
std::string obstacle(const RunConfig& config, at::ScalarType compute, int world_size) {
  const ModelSize size = model_size(config.model, config.moe, config.data.sequence_length);
  const int64_t needed = plan_memory(config, compute, world_size).total();
  const auto here = static_cast<int64_t>(
      (1 - kHeadroom) * static_cast<double>(planned_device("cpu", 1)->memory_bytes));
  if (needed > here) return "it takes " + bytes_text(needed) + ", here are " + bytes_text(here);
  const auto tokens = static_cast<double>(config.train.global_batch_size / world_size *
                                          config.data.sequence_length);
  const double flops = size.flops_per_token * tokens;
  if (flops > kMostFlops)
    return text("it takes %.1e FLOPs, %.0e are tried here", flops, kMostFlops);
  return "";
}

std::vector<MicroBatch> random_step(const Session& session, const SimulatedPlace& place) {
  const RunConfig& config = session.config();
  const RandomStream draws(static_cast<uint64_t>(config.run.seed), "simulated tokens");
  const int64_t S = config.data.sequence_length, B = config.train.micro_batch_size;
  int64_t sample = place.rank * session.sequences_per_rank();
  std::vector<MicroBatch> batches;
  for (int64_t m = 0; m < session.accumulation_steps(); ++m) {
    SampleBatch samples;
    samples.count = B;
    samples.length = S;
    for (int64_t b = 0; b < B; ++b, ++sample) {
      for (int64_t s = 0; s <= S; ++s) {
        const double share = draws.uniform(s, sample);
        samples.tokens.push_back(
            static_cast<int64_t>(share * static_cast<double>(config.model.vocab_size)));
      }
      samples.order.push_back(sample);
      samples.ids.push_back(static_cast<uint64_t>(sample));
      samples.source.push_back(0);
      samples.valid.push_back(S);
    }
    batches.push_back(make_micro_batch(samples, config, /*end_of_text=*/-1));
  }
  return batches;
}

/// Rows that leave this rank of `group`, to experts of others and back to tokens of others, where
/// all its ranks choose experts so often: counts_LE (L, E).
int64_t moved_rows(const Tensor& counts_LE, const Communicator& group) {
  const int64_t local = counts_LE.size(1) / group.size();
  const Tensor all = counts_LE.sum(), own = counts_LE.narrow(1, group.rank() * local, local).sum();
  return (all - own + own * (group.size() - 1)).item().toLong();
}

SimulatedStep take_step(RunConfig config, const SimulatedPlace& place, TrafficLog& log) {
  // Nothing is under way here. Buckets send the same bytes, less the buffers' padding.
  config.parallel.overlap_grad_reduce = config.parallel.overlap_param_gather = "off";
  FlightRecord record(place.rank, place.world_size);
  Session session(
      make_simulated_mesh(config.parallel, place.rank, place.world_size, place.ranks_per_host, log),
      record, /*local_ranks=*/1, config);
  if (session.decoder().wants_token_counts())
    session.decoder().use_token_counts(at::ones({config.model.vocab_size}, at::kLong));
  SimulatedStep step;
  step.held = session.store().bytes();
  const StepReport report = train_step(session, random_step(session, place));
  if (report.counts.defined()) {
    step.rows_moved = moved_rows(report.counts.all_LE / place.world_size, *session.mesh().expert);
  }
  step.outcome = text("taken, on random tokens: loss %.4f, gradient norm %.4f", report.loss,
                      report.norms.total);
  return step;
}

/// One layer's tokens, spread evenly, to their experts and back, there and back again: tensors
/// without memory in the Dispatcher's places. Returns moved_rows.
int64_t exchange_rows(const RunConfig& config, at::ScalarType compute, Communicator& group,
                      int64_t ways) {
  const int64_t K = config.moe.top_k, E = config.moe.num_experts,
                T = config.train.micro_batch_size * config.data.sequence_length;
  const Tensor experts_TK = at::arange(T * K).remainder(E).view({T, K});
  const Dispatched sent = Dispatcher(group, E, config.parallel.overlap_chunks)
                              .order(experts_TK, at::ones({T, K}, at::kBool));
  if (group.size() == 1) return 0;
  const auto options = at::TensorOptions(at::kMeta).dtype(compute);
  Tensor there_SD = at::empty({T * K, config.model.hidden_size}, options);
  std::vector<ChunkBlocks> parts = {{sent.send, sent.recv}};
  if (!sent.chunks.empty()) {
    parts.clear();
    for (const DispatchedChunk& chunk : sent.chunks) parts.push_back(chunk.places);
  }
  for (const ChunkBlocks& part : parts) {
    Tensor here_RD = at::empty({part.part.total(), config.model.hidden_size}, options);
    for (int64_t i = 0; i < ways; ++i) {
      group.start_all_to_all(there_SD, part.whole, here_RD, part.part, "dispatch of tokens")
          ->wait();
      group.start_all_to_all(here_RD, part.part, there_SD, part.whole, "return of tokens")->wait();
    }
  }
  return moved_rows(at::bincount(experts_TK.flatten(), {}, E).unsqueeze(0), group);
}

SimulatedStep step_without_memory(const RunConfig& config, at::ScalarType compute,
                                  const SimulatedPlace& place, TrafficLog& log) {
  const Mesh mesh =
      make_simulated_mesh(config.parallel, place.rank, place.world_size, place.ranks_per_host, log);
  ParameterStore store;
  const Decoder decoder(store, config.model, config.moe, mesh, /*seed=*/0);
  ParameterStore::Options options;
  options.dtype = compute;
  options.device = at::kMeta;
  options.zero_stage = static_cast<int>(config.zero.stage);
  store.allocate(mesh, options);
  SimulatedStep step;
  step.held = store.bytes();
  // Forward and backward; once more where they count first, and where layers are run again.
  const int64_t batches = micro_batches(config, place.world_size),
                ways = 2 + (counts_first(config, batches) ? 1 : 0) +
                       (config.train.recompute == "layer" ? 1 : 0);
  for (int64_t m = 0; m < batches; ++m) {
    for (int64_t l = 0; l < decoder.num_moe_layers(); ++l)
      step.rows_moved += exchange_rows(config, compute, *mesh.expert, ways);
    std::vector<Tensor> sums;
    for (const Tensor& leaf : store.leaves()) sums.push_back(leaf.sum());
    torch::autograd::backward(sums, {});
  }
  reduce_gradients(store);
  store.gather_weights();
  return step;
}

int64_t padded(int64_t elements, int64_t ranks) { return (elements + ranks - 1) / ranks * ranks; }

/// The formula of parameter_store.h with the padding of its two buffers.
ParameterBytes expected_bytes(const RunConfig& config, at::ScalarType compute, int world_size) {
  const ModelSize size = model_size(config.model, config.moe, config.data.sequence_length);
  const int64_t EP = config.parallel.expert, EDP = world_size / EP, stage = config.zero.stage;
  const int64_t held[] = {padded(size.dense_parameters, world_size),
                          padded(size.expert_parameters / EP, EDP)},
                owned[] = {held[0] / world_size, held[1] / EDP};
  const int64_t n = held[0] + held[1], s = owned[0] + owned[1];
  const bool fp32 = compute == at::kFloat;
  return {(fp32 ? 4 : 2) * n, 4 * (stage >= 2 ? s : n), (fp32 ? 8 : 12) * (stage >= 1 ? s : n)};
}

void expect_between(const char* what, int64_t counted, int64_t least, int64_t most) {
  TORCH_CHECK(least <= counted && counted <= most, "simulated run: ", what, ": ", counted,
              " bytes, planned were ", least, least == most ? "" : " to ",
              least == most ? "" : std::to_string(most));
}

void check_buffers(const ParameterBytes& held, const ParameterBytes& expected) {
  expect_between("weights", held.weights, expected.weights, expected.weights);
  expect_between("gradients", held.gradients, expected.gradients, expected.gradients);
  expect_between("optimizer", held.optimizer, expected.optimizer, expected.optimizer);
}

int64_t gradient_bytes(const TrafficLog& log) {
  return log.bytes_for("gradients of ") + log.bytes_for("gradient of ");
}

int64_t row_bytes(const TrafficLog& log) {
  return log.bytes_for("dispatch of tokens") + log.bytes_for("return of tokens");
}

/// Rows: as many as were counted apart from them; fewer where capacity drops some. Gradients at
/// stage 2: without the buffers' padding, and without those of what is frozen.
void check_traffic(const RunConfig& config, at::ScalarType compute, int world_size,
                   const StepVolumes& planned, int64_t rows_moved, const TrafficLog& log) {
  const MoeConfig& moe = config.moe;
  StepVolumes exchange = exchange_volumes(config, compute, rows_moved);
  if (counts_first(config, micro_batches(config, world_size))) {
    exchange.dispatch_forward *= 2;
    exchange.combine_forward *= 2;
  }
  const int64_t rows = exchange.exchange() / 2;  // each way has half of the moved rows
  const bool drops = moe.capacity.factor || moe.capacity.device_factor;
  expect_between("token rows", row_bytes(log), drops ? 0 : rows, rows);
  const int64_t W = world_size, EDP = W / config.parallel.expert,
                batches = micro_batches(config, W), padding = 4 * (W + EDP) * batches;
  const bool partial = config.zero.stage == 2;
  const int64_t least = !partial                      ? planned.reduction
                        : config.train.freeze.empty() ? planned.reduction - padding
                                                      : 0;
  expect_between("gradients", gradient_bytes(log), least, planned.reduction);
  expect_between("weights after the update", log.bytes_for("weights after"), planned.gather,
                 planned.gather);
}

std::string place_line(const SimulatedPlace& place, const MeshPlace& groups) {
  const auto hosts = [&](const Members& members) {  // in ascending order, as their ranks are
    int64_t count = 1;
    for (int i = 1; i < members.count; ++i) {
      count +=
          members.at(i) / place.ranks_per_host != members.at(i - 1) / place.ranks_per_host ? 1 : 0;
    }
    return count;
  };
  return "place    rank " + std::to_string(place.rank) + " of " + grouped(place.world_size) + ", " +
         std::to_string(place.ranks_per_host) + " to a host; tokens go to " +
         grouped(groups.expert.count - 1) + " others on " + grouped(hosts(groups.expert)) +
         " host(s), the same experts are on " + grouped(groups.data.count - 1) + " others, on " +
         grouped(hosts(groups.data)) + "\n";
}

std::string traffic_lines(const TrafficLog& log) {
  std::string lines = text("%-40s %7s %10s %19s %19s\n", "sent in a step", "calls", "messages",
                           "bytes in the host", "across hosts");
  for (const char* group : {"world", "expert parallel", "expert data parallel"}) {
    lines += std::string("  ") + group + "\n";
    for (const Traffic& traffic : log.all()) {
      if (traffic.group != group) continue;
      lines += text("    %-36s %7s %10s %19s %19s\n", traffic.purpose.c_str(),
                    grouped(traffic.calls).c_str(), grouped(traffic.messages).c_str(),
                    grouped(traffic.bytes_in_host).c_str(), grouped(traffic.bytes_across).c_str());
    }
  }
  return lines;
}

std::string total_lines(const TrafficLog& log, const StepVolumes& planned) {
  const auto line = [](const char* what, int64_t counted, int64_t balanced) {
    return text("  %-24s %12s  planned %12s\n", what, bytes_text(counted).c_str(),
                bytes_text(balanced).c_str());
  };
  return "together\n" + line("token rows", row_bytes(log), planned.exchange()) +
         line("gradients, summed", gradient_bytes(log), planned.reduction) +
         line("weights, gathered", log.bytes_for("weights after"), planned.gather);
}

}  // namespace

std::string simulate_run(RunConfig config, const SimulatedPlace& place) {
  std::string told = describe_run(config, place.world_size);
  if (config.model.vocab_size == kAuto)
    resolve_vocabulary(config.model, read_dataset_meta(config.data.path.front().path).vocab_size);
  const at::ScalarType compute = compute_dtype(config.train);
  told += place_line(place, place_in_mesh(config.parallel, place.rank, place.world_size));
  TrafficLog log;
  const std::string why_not = obstacle(config, compute, place.world_size);
  SimulatedStep step;
  if (why_not.empty()) {
    step = take_step(config, place, log);
  } else {
    step = step_without_memory(config, compute, place, log);
    step.outcome = "gone through without memory, tokens spread evenly: " + why_not;
  }
  check_buffers(step.held, expected_bytes(config, compute, place.world_size));
  const StepVolumes planned =
      planned_volumes(config, compute, place.world_size, RoutingCase::kBalanced);
  check_traffic(config, compute, place.world_size, planned, step.rows_moved, log);
  return told + "buffers  weights " + grouped(step.held.weights) + " bytes, gradients " +
         grouped(step.held.gradients) + ", optimizer " + grouped(step.held.optimizer) +
         ": as planned\nstep     " + step.outcome + "\n\n" + traffic_lines(log) + "\n" +
         total_lines(log, planned);
}

}  // namespace switchyard
