#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "config/cost_model.h"
#include "config/load_config.h"
#include "metrics/console.h"
#include "model/layout_search.h"
#include "model/step_cost.h"
#include "model/step_volumes.h"
#include "train/load_run_config.h"
#include "train/program_memory.h"
#include "train/session.h"

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

struct PlanFlags {
  std::string config;
  std::vector<std::string> sets;
  int64_t ranks = 0;  // 0: left out
  std::string device = "cpu";
  std::string cost_model;  // empty: no times
  double imbalance = 1;
  bool json = false;
};

/// A step's time, with --cost-model.
struct PlannedTime {
  CostModel costs;
  StepWork work;
  StepCost cost;
  int64_t threads = 1;
  bool projected = false;  // over hosts that nobody measured together
  double imbalance = 1, tokens_per_second = 0;
  double mfu = 0;  // 0: no peak in the file
};

struct Plan {
  ModelSize size;
  RunConfig config;  // with the layout that is planned
  at::ScalarType compute;
  int64_t ranks;
  Device device;  // of one rank
  MemoryPlan memory;
  StepVolumes balanced, worst;
  std::vector<Layout> fitting;   // of `ranks`, the one to take first
  std::vector<Layout> smallest;  // of the fewest ranks that fit
  std::optional<Layout> leanest;
  std::optional<Layout> leanest_again;  // the same with layers recomputed
  int64_t budget;                       // bytes of the device that are planned with
  std::optional<PlannedTime> time = {};

  bool fits() const { return memory.total() <= budget; }
};

Device device_of_rank(const std::string& name, int64_t ranks) {
  if (std::optional<Device> device = planned_device(name, ranks)) return *device;
  std::string known = "cpu";
  for (const Device& device : known_devices()) known += ", " + device.name;
  throw ConfigError("--device " + name + ": not known; one of " + known);
}

/// `ranks_per_host`: of a machine that is described; 0: all ranks are on this host.
Budget make_budget(const std::string& device, at::ScalarType compute, int64_t ranks_per_host) {
  Budget budget;
  budget.host = device == "cpu";
  if (budget.host) budget.program = measure_program_bytes(compute);
  budget.bytes = [device, ranks_per_host](int64_t ranks) {
    if (ranks_per_host > 0) ranks = std::min(ranks, ranks_per_host);
    return static_cast<int64_t>((1 - kHeadroom) *
                                static_cast<double>(device_of_rank(device, ranks).memory_bytes));
  };
  return budget;
}

PlannedTime plan_time(const PlanFlags& flags, const CostModel& costs, const Plan& plan) {
  const RunConfig& config = plan.config;
  PlannedTime time;
  time.costs = costs;
  time.work = step_work(config, plan.compute, plan.ranks);
  time.cost = step_cost(time.work, config, plan.compute, plan.ranks, costs, flags.imbalance);
  time.threads = planned_threads(config, costs, plan.ranks);
  time.projected = spans_hosts(costs, plan.ranks);
  time.imbalance = flags.imbalance;
  const auto tokens =
      static_cast<double>(config.train.global_batch_size * config.data.sequence_length);
  time.tokens_per_second = tokens / time.cost.total();
  const double peak = (plan.compute == at::kFloat ? costs.fp32 : costs.bf16).peak_flops *
                      static_cast<double>(time.threads * plan.ranks);
  time.mfu = peak > 0 ? plan.size.flops_per_token * time.tokens_per_second / peak : 0;
  return time;
}

Plan make_plan(const PlanFlags& flags) {
  device_of_rank(flags.device, 1);  // known?
  std::optional<CostModel> costs;
  if (!flags.cost_model.empty()) costs = load_cost_model(flags.cost_model);
  RunConfig config = load_run_config(flags.config, flags.sets, static_cast<int>(flags.ranks));
  if (config.model.vocab_size == kAuto) {
    throw ConfigError("plan reads no data: give model.vocab_size, here auto, a number");
  }
  const at::ScalarType compute = compute_dtype(config.train);
  const Budget budget = make_budget(flags.device, compute, costs ? costs->ranks_per_host : 0);
  Plan plan;
  plan.size = model_size(config.model, config.moe, config.data.sequence_length);
  plan.compute = compute;
  plan.smallest = smallest_fitting(config, compute, budget);
  plan.ranks = flags.ranks;
  if (flags.ranks == 0) {  // the suggested layout is the one that is planned
    plan.ranks = plan.smallest.empty() ? config.parallel.expert : plan.smallest.front().ranks;
    if (!plan.smallest.empty()) config = with_layout(config, plan.smallest.front());
  }
  plan.config = config;
  plan.device = device_of_rank(flags.device,
                               costs ? std::min(plan.ranks, costs->ranks_per_host) : plan.ranks);
  plan.budget = budget.bytes(plan.ranks);
  plan.memory = budget.plan(config, compute, plan.ranks);
  plan.balanced = planned_volumes(config, compute, plan.ranks, RoutingCase::kBalanced);
  plan.worst = planned_volumes(config, compute, plan.ranks, RoutingCase::kWorst);
  plan.fitting = fitting_layouts(config, compute, plan.ranks, budget);
  plan.leanest = leanest_layout(config, compute, plan.ranks, budget);
  if (costs) plan.time = plan_time(flags, *costs, plan);
  config.train.recompute = "layer";
  plan.leanest_again = leanest_layout(config, compute, plan.ranks, budget);
  return plan;
}

/// Why the first of the fitting layouts is the one to take.
std::string reason(const Layout& layout, const RunConfig& config) {
  std::string text = layout.ranks == 1 ? "one rank has room for all of it"
                     : layout.expert == 1
                         ? "no token has to leave its rank"
                         : "EP " + std::to_string(layout.expert) +
                               " is the smallest expert group whose share of the experts fits";
  if (layout.zero_stage == 1 && layout.ranks > 1) {
    text += ", ZeRO-1 partitions the optimizer at the traffic of stage 0";
  } else if (layout.zero_stage == 2) {
    text += ", gradients fit only partitioned (ZeRO-2)";
  }
  if (layout.micro_batch_size < config.train.micro_batch_size) {
    text += ", and activations only with a smaller micro-batch";
  }
  return text;
}

/// What would help where no layout fits.
std::string advice_for(const Plan& plan) {
  if (!plan.leanest) {
    return "no layout of " + std::to_string(plan.ranks) +
           " ranks divides train.global_batch_size " +
           std::to_string(plan.config.train.global_batch_size);
  }
  const MemoryPlan& memory = plan.leanest->memory;
  const int64_t state =
      memory.parameters.weights + memory.parameters.gradients + memory.parameters.optimizer;
  const std::string least = "no layout fits: the leanest (" + set_flags(*plan.leanest) +
                            ") needs " + bytes_text(memory.total()) + " of " +
                            bytes_text(plan.budget);
  const MemoryPlan& again = plan.leanest_again->memory;
  if (plan.config.train.recompute != "layer" && again.total() <= plan.budget) {
    return least + "; with --set train.recompute=layer " + set_flags(*plan.leanest_again) +
           " it needs " + bytes_text(again.total()) + ", which fits";
  }
  if (state > memory.transient()) {
    return least + "; what would help: more ranks, a larger device, fewer or smaller experts" +
           (plan.compute == at::kFloat ? ", train.precision bf16" : "");
  }
  return least + "; what would help: a shorter data.sequence_length, a smaller " +
         "train.micro_batch_size or moe.capacity.factor, a larger device";
}

// As JSON.

Json as_json(const StepVolumes& volumes) {
  return {{"dispatch_forward", volumes.dispatch_forward},
          {"combine_forward", volumes.combine_forward},
          {"dispatch_backward", volumes.dispatch_backward},
          {"combine_backward", volumes.combine_backward},
          {"exchange", volumes.exchange()},
          {"reduction", volumes.reduction},
          {"gather", volumes.gather}};
}

Json as_json(const Layout& layout) {
  return {{"ranks", layout.ranks},          {"expert", layout.expert},
          {"zero", layout.zero_stage},      {"micro_batch_size", layout.micro_batch_size},
          {"total", layout.memory.total()}, {"worst_total", layout.memory.worst_total()},
          {"set", set_flags(layout)}};
}

/// The parts of a step's time, in the order in which they are told.
std::vector<std::pair<const char*, double>> parts_of(const StepCost& cost) {
  return {
      {"products", cost.products}, {"scores", cost.scores},       {"activations", cost.activations},
      {"weights", cost.weights},   {"optimizer", cost.optimizer}, {"layers", cost.layers},
      {"exchange", cost.exchange}, {"reduction", cost.reduction}, {"wait", cost.wait}};
}

Json as_json(const StepWork& work) {
  return {{"dense_flops", work.dense_flops},
          {"expert_flops", work.expert_flops},
          {"scores", work.scores},
          {"activation_bytes", work.activation_bytes},
          {"weight_bytes", work.weight_bytes},
          {"optimizer_bytes", work.optimizer_bytes},
          {"layers", work.layers},
          {"exchange_messages", work.exchange_messages},
          {"exchange_bytes", work.exchange_bytes},
          {"reduction_messages", work.reduction_messages},
          {"reduction_bytes", work.reduction_bytes}};
}

Json as_json(const PlannedTime& time) {
  Json parts;
  for (const auto& [part, seconds] : parts_of(time.cost)) parts[part] = seconds;
  return {{"projected", time.projected},
          {"machine", time.costs.machine},
          {"fitted", time.costs.fitted},
          {"threads", time.threads},
          {"imbalance", time.imbalance},
          {"step_s", time.cost.total()},
          {"tokens_per_second", time.tokens_per_second},
          {"mfu", time.mfu > 0 ? Json(time.mfu) : Json()},
          {"parts_s", parts},
          {"work", as_json(time.work)}};
}

Json suggestion(const Plan& plan) {
  const std::vector<Layout>& from = plan.fitting.empty() ? plan.smallest : plan.fitting;
  if (from.empty()) return nullptr;
  Json told = as_json(from.front());
  told["reason"] = reason(from.front(), plan.config);
  return told;
}

std::string as_json(const Plan& plan) {
  const MemoryPlan& memory = plan.memory;
  Json layouts = Json::array();
  for (const Layout& layout : plan.fitting) layouts.push_back(as_json(layout));
  Json told = {
      {"parameters_total", plan.size.total_parameters()},
      {"parameters_active", plan.size.active_parameters},
      {"flops_per_token", plan.size.flops_per_token},
      {"ranks", plan.ranks},
      {"expert", plan.config.parallel.expert},
      {"zero", plan.config.zero.stage},
      {"precision", plan.compute == at::kFloat ? "fp32" : "bf16"},
      {"micro_batch_size", plan.config.train.micro_batch_size},
      {"micro_batches", micro_batches(plan.config, plan.ranks)},
      {"bytes_per_rank",
       {{"parameters", memory.parameters.weights},
        {"gradients", memory.parameters.gradients},
        {"optimizer", memory.parameters.optimizer},
        {"activations", memory.activations()},
        {"exchange", {{"balanced", memory.exchange()}, {"worst", memory.worst.exchange}}},
        {"checkpoint", memory.checkpoint},
        {"allocator", memory.allocator},
        {"program", memory.program},
        {"total", memory.total()},
        {"worst_total", memory.worst_total()}}},
      {"fullest_at", memory.balanced.peak_at},
      {"bytes_per_step", {{"balanced", as_json(plan.balanced)}, {"worst", as_json(plan.worst)}}},
      {"device",
       {{"name", plan.device.name},
        {"bytes", plan.device.memory_bytes},
        {"headroom", kHeadroom},
        {"budget", plan.budget},
        {"peak_flops", plan.device.peak_flops > 0 ? Json(plan.device.peak_flops) : Json()},
        {"source", plan.device.source}}},
      {"fits", plan.fits()},
      {"fits_worst", memory.worst_total() <= plan.budget},
      {"smallest_ranks", plan.smallest.empty() ? Json() : Json(plan.smallest.front().ranks)},
      {"layouts", layouts},
      {"suggestion", suggestion(plan)}};
  if (plan.fitting.empty()) told["advice"] = advice_for(plan);
  if (plan.time) told["time"] = as_json(*plan.time);
  return told.dump() + "\n";
}

// As text.

/// printf into a string.
template <typename... Values>
std::string text(const char* format, Values... values) {
  std::string line(static_cast<size_t>(std::snprintf(nullptr, 0, format, values...)), ' ');
  std::snprintf(line.data(), line.size() + 1, format, values...);
  return line;
}

/// 46702792704 -> "46.7 B".
std::string count_text(double n) {
  const char* units[] = {"", " k", " M", " B", " T"};
  size_t unit = 0;
  for (; n >= 999.5 && unit < 4; ++unit) n /= 1000;
  return text(unit == 0 ? "%.0f%s" : "%.1f%s", n, units[unit]);
}

std::string part_line(const char* part, int64_t bytes, int64_t total) {
  constexpr int64_t kBar = 24;
  const int64_t filled = total == 0 ? 0 : (bytes * kBar + total / 2) / total;
  const double percent =
      100.0 * static_cast<double>(bytes) / static_cast<double>(std::max<int64_t>(total, 1));
  return text("  %-12s %10s  %-24s %3.0f %%\n", part, bytes_text(bytes).c_str(),
              std::string(filled, '#').c_str(), percent);
}

std::string memory_text(const Plan& plan) {
  const MemoryPlan& memory = plan.memory;
  const int64_t total = memory.total();
  std::string lines = "memory of one rank, routing balanced\n";
  lines += part_line("parameters", memory.parameters.weights, total);
  lines += part_line("gradients", memory.parameters.gradients, total);
  lines += part_line("optimizer", memory.parameters.optimizer, total);
  lines += part_line("activations", memory.activations(), total);
  if (memory.exchange() > 0) lines += part_line("exchange", memory.exchange(), total);
  if (memory.checkpoint > 0) lines += part_line("checkpoint", memory.checkpoint, total);
  if (memory.allocator > 0) lines += part_line("allocator", memory.allocator, total);
  if (memory.program > 0) lines += part_line("program", memory.program, total);
  lines += text("  %-12s %10s  of %s (%s%s, %.0f %% left free): %s\n", "together",
                bytes_text(total).c_str(), bytes_text(plan.budget).c_str(),
                plan.device.name.c_str(), plan.device.name == "cpu" ? ", shared by the ranks" : "",
                100 * kHeadroom, plan.fits() ? "fits" : "DOES NOT FIT");
  if (memory.worst_total() > total) {
    lines += text("  %-12s %10s  if all tokens choose this rank's experts: %s\n", "at worst",
                  bytes_text(memory.worst_total()).c_str(),
                  memory.worst_total() <= plan.budget ? "fits" : "does not fit");
  }
  return lines + "  fullest in the " + memory.balanced.peak_at + "\n";
}

std::string volume_text(const Plan& plan) {
  const StepVolumes &balanced = plan.balanced, &worst = plan.worst;
  const auto line = [](const char* what, int64_t even, int64_t uneven) {
    return text("  %-24s %10s  %10s\n", what, bytes_text(even).c_str(), bytes_text(uneven).c_str());
  };
  return text("sent by one rank in a step    balanced    at worst\n") +
         line("dispatch forward", balanced.dispatch_forward, worst.dispatch_forward) +
         line("combine forward", balanced.combine_forward, worst.combine_forward) +
         line("dispatch backward", balanced.dispatch_backward, worst.dispatch_backward) +
         line("combine backward", balanced.combine_backward, worst.combine_backward) +
         line("gradients, summed", balanced.reduction, worst.reduction) +
         line("weights, gathered", balanced.gather, worst.gather);
}

std::string time_text(const Plan& plan, const PlannedTime& time) {
  const double total = time.cost.total();
  std::string lines =
      time.projected
          ? text(
                "time of a step, projected, not measured: %s hosts of %s ranks, network as the "
                "file states it\n",
                grouped((plan.ranks + time.costs.ranks_per_host - 1) / time.costs.ranks_per_host)
                    .c_str(),
                grouped(time.costs.ranks_per_host).c_str())
          : std::string("time of a step, predicted\n");
  for (const auto& [part, seconds] : parts_of(time.cost)) {
    if (seconds == 0) continue;
    const auto filled = static_cast<size_t>(std::lround(24 * seconds / total));
    lines += text("  %-12s %7.1f ms  %-24s %3.0f %%\n", part, 1e3 * seconds,
                  std::string(filled, '#').c_str(), 100 * seconds / total);
  }
  lines += text("  %-12s %7.1f ms  %s tokens/s", "together", 1e3 * total,
                grouped(std::llround(time.tokens_per_second)).c_str());
  if (time.mfu > 0) lines += text(", MFU %.1f %%", 100 * time.mfu);
  return lines +
         text("\n  of %s thread(s) a rank on %s; fullest rank %.2f times the mean\n",
              grouped(time.threads).c_str(), time.costs.machine.c_str(), time.imbalance) +
         "  by " + time.costs.path + "\n  fitted " + time.costs.fitted + "\n\n";
}

std::string layouts_text(const Plan& plan) {
  constexpr size_t kShown = 8;
  std::string lines;
  if (plan.fitting.empty()) {
    lines = "layouts      " + advice_for(plan) + "\n";
  } else {
    lines = text(
        "layouts of %lld ranks that fit  (%zu)\n    EP  ZeRO  micro-batch      memory    at "
        "worst\n",
        static_cast<long long>(plan.ranks), plan.fitting.size());
    for (size_t i = 0; i < std::min(kShown, plan.fitting.size()); ++i) {
      const Layout& layout = plan.fitting[i];
      lines +=
          text("  %4lld  %4lld  %11lld  %10s  %10s%s\n", static_cast<long long>(layout.expert),
               static_cast<long long>(layout.zero_stage),
               static_cast<long long>(layout.micro_batch_size),
               bytes_text(layout.memory.total()).c_str(),
               bytes_text(layout.memory.worst_total()).c_str(), i == 0 ? "  <- suggested" : "");
    }
  }
  if (!plan.smallest.empty()) {
    lines += "fewest       " + grouped(plan.smallest.front().ranks) +
             " ranks: " + set_flags(plan.smallest.front()) + "\n";
  }
  const std::vector<Layout>& from = plan.fitting.empty() ? plan.smallest : plan.fitting;
  if (from.empty()) return lines;
  return lines + "suggested    mpirun -n " + std::to_string(from.front().ranks) + ", " +
         set_flags(from.front()) + "\n             because " + reason(from.front(), plan.config) +
         "\n";
}

std::string as_text(const Plan& plan) {
  const RunConfig& config = plan.config;
  const int64_t EP = config.parallel.expert;
  return "parameters   " + grouped(plan.size.total_parameters()) + " (" +
         count_text(static_cast<double>(plan.size.total_parameters())) + "), active per token " +
         grouped(plan.size.active_parameters) + " (" +
         count_text(static_cast<double>(plan.size.active_parameters)) + ")\ncompute      " +
         count_text(plan.size.flops_per_token) +
         " FLOPs per token, forward and backward, active experts alone\nlayout       " +
         std::to_string(plan.ranks) + " ranks = EP " + std::to_string(EP) + " x EDP " +
         std::to_string(plan.ranks / EP) + ", ZeRO-" + std::to_string(config.zero.stage) + ", " +
         (plan.compute == at::kFloat ? "fp32" : "bf16") + ", micro-batch " +
         std::to_string(config.train.micro_batch_size) + " x " +
         grouped(config.data.sequence_length) + " tokens, " +
         grouped(micro_batches(config, plan.ranks)) + " per step\n\n" + memory_text(plan) + "\n" +
         volume_text(plan) + "\n" + (plan.time ? time_text(plan, *plan.time) : "") +
         layouts_text(plan);
}

ExitCode run_plan(const PlanFlags& flags, const Runtime& runtime) {
  if (runtime.rank() != 0) return kExitOk;
  const Plan plan = make_plan(flags);
  print_once(runtime, flags.json ? as_json(plan) : as_text(plan));
  return kExitOk;
}

}  // namespace

Command add_plan(CLI::App& app) {
  auto flags = std::make_shared<PlanFlags>();
  CLI::App* command = app.add_subcommand(
      "plan", "Memory, traffic and layouts of a run of CONFIG.yaml, before it is started");
  command->add_option("config", flags->config, "CONFIG.yaml, with model.vocab_size")->required();
  command->add_option("--ranks", flags->ranks, "Ranks of the run to plan; left out: suggested")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  command
      ->add_option("--device", flags->device,
                   "What each rank has: cpu (this host's memory, shared by the ranks), a100-40, "
                   "a100, h100, h200, b200")
      ->capture_default_str();
  command
      ->add_option("--cost-model", flags->cost_model,
                   "What work costs on a machine, such as configs/bench/costs/epyc-2core.yaml: "
                   "adds the time of a step. scripts/bench/scale.py makes one of this machine")
      ->type_name("COSTS.yaml");
  CLI::Option* cost_model = command->get_option("--cost-model");
  command
      ->add_option("--imbalance", flags->imbalance,
                   "With --cost-model: token rows of the fullest rank over the mean of all")
      ->type_name("RATIO")
      ->needs(cost_model)
      ->check(CLI::Range(1.0, 1e6))
      ->capture_default_str();
  command->add_option("--set", flags->sets, "key.path=value over the file; may be repeated")
      ->allow_extra_args(false);
  command->add_flag("--json", flags->json, "One JSON object on stdout");
  command->footer(
      "Example: switchyard plan configs/presets/mixtral_8x7b.yaml --ranks 64 --device h100\n"
      "Example: switchyard plan configs/bench/w1.yaml --ranks 2 --cost-model "
      "configs/bench/costs/epyc-2core.yaml");
  return {command, [flags](const Runtime& runtime) { return run_plan(*flags, runtime); }};
}

}  // namespace switchyard
