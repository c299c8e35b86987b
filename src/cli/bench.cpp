#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <optional>

#include "base/error.h"
#include "bench/bench_all_to_all.h"
#include "bench/bench_gemm.h"
#include "bench/bench_moe_layer.h"
#include "bench/bench_step.h"
#include "cli/command.h"
#include "distributed/device.h"
#include "train/load_run_config.h"

namespace switchyard {
namespace {

using nlohmann::json;

struct BenchFlags {
  std::string what, config, device, note;
  std::vector<std::string> sets;
  Rounds rounds;
  int64_t threads = 0, gemm_size = 4096, most_bytes = int64_t{64} << 20;
  bool balanced = false, json = false;
};

/// printf into a string.
template <typename... Values>
std::string text(const char* format, Values... values) {
  std::string line(static_cast<size_t>(std::snprintf(nullptr, 0, format, values...)), ' ');
  std::snprintf(line.data(), line.size() + 1, format, values...);
  return line;
}

double number(const json& row, const char* key) { return row.at(key).get<double>(); }

std::string word(const json& row, const char* key) { return row.at(key).get<std::string>(); }

/// What every measurement says of itself.
std::string heading(const json& result) {
  const json& load = result.at("load_average");
  return text("%s on %d rank(s) of %d thread(s), load average %.2f %.2f %.2f\n",
              word(result, "bench").c_str(), result.at("ranks").get<int>(),
              result.at("threads").get<int>(), load[0].get<double>(), load[1].get<double>(),
              load[2].get<double>());
}

std::string gemm_text(const json& result) {
  std::string lines =
      "product                         m      k      n  dtype  library        "
      "GFLOP/s  slowest  fastest  quiet\n";
  for (const json& row : result.at("results")) {
    lines +=
        text("%-26s %6d %6d %6d  %-5s  %-13s %8.1f %8.1f %8.1f  %d of %d\n",
             word(row, "shape").c_str(), row.at("m").get<int>(), row.at("k").get<int>(),
             row.at("n").get<int>(), word(row, "precision").c_str(), word(row, "library").c_str(),
             number(row, "gflops"), number(row, "gflops_min"), number(row, "gflops_max"),
             row.at("quiet").get<int>(), row.at("rounds").get<int>());
  }
  const json& peak = result.at("peak_gflops");
  return lines +
         text("peak: fp32 %.1f, bf16 %.1f GFLOP/s\n", number(peak, "fp32"), number(peak, "bf16"));
}

std::string all_to_all_text(const json& result) {
  std::string lines = "bytes to each        ours         raw    ours GB/s  raw GB/s  raw / ours\n";
  for (const json& row : result.at("results")) {
    lines += text("%13lld  %7.1f us  %7.1f us  %9.2f %9.2f  %10.2f\n",
                  static_cast<long long>(row.at("bytes").get<int64_t>()),
                  1e6 * number(row, "ours_s"), 1e6 * number(row, "raw_s"), number(row, "gb_per_s"),
                  number(row, "raw_gb_per_s"), number(row, "ratio"));
  }
  return lines;
}

std::string layer_line(const json& row) {
  return text("%-5s  %7d  %6d  %9d  %8.2f  %9.1f %8.1f  %11.2f  %d of %d\n",
              word(row, "precision").c_str(), row.at("experts").get<int>(),
              row.at("tokens").get<int>(), row.at("rows_per_expert").get<int>(),
              number(row, "max_load"), 1e3 * number(row, "dense_s"), 1e3 * number(row, "moe_s"),
              number(row, "ratio"), row.at("quiet").get<int>(), row.at("rounds").get<int>());
}

std::string padding_lines(const json& entry) {
  std::string lines = text(
      "%s, %d experts, %d tokens, max load %.2f: what padding costs at the same routing, time over "
      "dropless\n",
      word(entry, "precision").c_str(), entry.at("experts").get<int>(),
      entry.at("tokens").get<int>(), number(entry, "max_load"));
  for (const json& way : entry.at("ways")) {
    lines +=
        text("  %-22s %9.1f ms  %6.2f  %7d rows  %5.1f %% dropped\n", word(way, "name").c_str(),
             1e3 * number(way, "layer_s"), number(way, "over_dropless"), way.at("rows").get<int>(),
             100 * number(way, "dropped"));
  }
  return lines;
}

/// Minutes: lines are given to `print` as soon as they are known.
json run_moe_layer(const Mesh& mesh, const std::vector<LayerCase>& cases, const Rounds& rounds,
                   const std::function<void(const std::string&)>& print) {
  print(heading(described("moe-layer", *mesh.world)) +
        "dtype  experts  tokens  rows each  max load   dense ms   MoE ms  MoE / dense  quiet\n");
  return bench_moe_layer(mesh, cases, rounds,
                         {[&](const json& entry) { print(layer_line(entry)); },
                          [&](const json& entry) { print(padding_lines(entry)); }});
}

std::string step_text(const json& row) {
  std::string lines = text(
      "%s %s, %s: %.0f tokens/s (%.0f to %.0f, %d quiet of %d steps), "
      "step %.1f ms\n",
      word(row, "workload").c_str(), word(row, "precision").c_str(), word(row, "variant").c_str(),
      number(row, "tok_s"), number(row, "tok_s_min"), number(row, "tok_s_max"),
      row.at("quiet").get<int>(), row.at("steps").get<int>(), 1e3 * number(row, "step_s"));
  lines += text(
      "MFU %.1f %%: %.1f of %.1f GFLOP/s, %.2f MFLOP per token; fullest expert %.2f "
      "times the mean, %.1f %% dropped\n",
      100 * number(row, "mfu"), number(row, "gflops"), number(row, "peak_gflops"),
      number(row, "flops_per_token") / 1e6, number(row, "max_load"), 100 * number(row, "dropped"));
  lines += "peak memory per rank:";
  for (const json& bytes : row.at("peak_rss_bytes"))
    lines += text(" %.0f MiB", bytes.get<double>() / (1 << 20));
  const json& wire = row.at("wire_bytes");
  lines += text(
      "\nbytes on the wire per step, all ranks: exchange %.1f MB (expected %.1f), "
      "as planned: reduction %.1f MB, gather %.1f MB\n",
      number(wire, "exchange") / 1e6, number(wire, "exchange_expected") / 1e6,
      number(wire, "reduction") / 1e6, number(wire, "gather") / 1e6);
  lines += text("in collectives %.1f %% of the step, in all-to-alls %.1f %%\n",
                100 * number(row, "comm_share"), 100 * number(row, "exchange_share"));
  for (const auto& [part, share] : row.at("phases").items())
    lines += text("  %-28s %5.1f %%\n", part.c_str(), 100 * share.get<double>());
  return lines;
}

void check(const BenchFlags& flags) {
  if (flags.what != "gemm" && flags.what != "all-to-all" && flags.what != "moe-layer" &&
      flags.what != "step") {
    throw ConfigError("bench: `" + flags.what +
                      "` is not one of gemm, all-to-all, moe-layer, step");
  }
  if (flags.what == "step" && flags.config.empty())
    throw ConfigError("bench step needs --config, such as configs/bench/w1.yaml");
  if (flags.balanced && flags.what != "step") throw ConfigError("--balanced goes with bench step");
  if (flags.config.empty() && !flags.sets.empty()) throw ConfigError("--set goes with --config");
}

ExitCode run_bench(const BenchFlags& flags, const Runtime& runtime) {
  check(flags);
  std::optional<RunConfig> config;
  if (!flags.config.empty())
    config = load_run_config(flags.config, flags.sets, runtime.world_size());
  if (config && !flags.device.empty()) config->train.device = flags.device;
  json result;
  std::string (*as_text)(const json&) = nullptr;
  if (flags.what == "step") {
    if (flags.threads > 0) config->train.threads = flags.threads;
    result =
        bench_step(runtime, *config, {flags.rounds, flags.gemm_size, flags.balanced, flags.note});
    as_text = step_text;
  } else {
    const int64_t configured = config ? config->train.threads : kAuto;
    use_threads(runtime, flags.threads > 0 ? flags.threads : configured);
    ParallelConfig parallel;
    parallel.expert = config ? config->parallel.expert : runtime.world_size();
    if (config) parallel.gpu_transport = config->parallel.gpu_transport;
    Rounds rounds = flags.rounds;
    rounds.device = select_device(config                 ? config->train.device
                                  : flags.device.empty() ? "cpu"
                                                         : flags.device,
                                  runtime.local_rank());
    const Mesh mesh = runtime.make_mesh(parallel, rounds.device);
    if (flags.what == "gemm") {
      result = bench_gemm(*mesh.world, gemm_shapes(flags.gemm_size, config, runtime.world_size()),
                          rounds);
      as_text = gemm_text;
    } else if (flags.what == "all-to-all") {
      result = bench_all_to_all(*mesh.world, flags.most_bytes, flags.rounds);
      as_text = all_to_all_text;
    } else {
      result = run_moe_layer(mesh, layer_cases(config), rounds, [&](const std::string& lines) {
        if (!flags.json) print_once(runtime, lines);
      });
      if (!flags.json) return kExitOk;
    }
  }
  if (runtime.rank() != 0) return kExitOk;
  print_once(runtime, flags.json ? result.dump() + "\n" : heading(result) + as_text(result));
  return kExitOk;
}

}  // namespace

Command add_bench(CLI::App& app) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* command = app.add_subcommand(
      "bench", "Speed of this machine and of what runs on it: products, exchange, a layer, a step");
  command->add_option("what", flags->what, "What to measure")
      ->type_name("gemm|all-to-all|moe-layer|step")
      ->required();
  command
      ->add_option("--config", flags->config,
                   "The run whose step, layer or shapes to measure; step needs one, with "
                   "model.vocab_size, and no data")
      ->type_name("CONFIG.yaml");
  command
      ->add_option(
          "--device", flags->device,
          "What computes in gemm, moe-layer and step: cpu, or cuda, one GPU per rank; without "
          "it --config's train.device")
      ->type_name("cpu|cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  command->add_option("--set", flags->sets, "A key over --config's; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("--rounds", flags->rounds.quiet,
                   "Rounds to time in which other programs took less than 5 % of the machine")
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, int64_t{100000}))
      ->capture_default_str();
  command->add_option("--warmup", flags->rounds.warmup, "Rounds before those that do not count")
      ->type_name("N")
      ->check(CLI::Range(int64_t{0}, int64_t{100000}))
      ->capture_default_str();
  command
      ->add_option("--limit", flags->rounds.seconds,
                   "When to end each comparison with fewer quiet rounds, after 3 at least")
      ->type_name("SECONDS")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--threads", flags->threads,
                   "Of each rank. Default: train.threads, or "
                   "this host's cores shared out")
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, int64_t{4096}));
  command
      ->add_option("--gemm-size", flags->gemm_size,
                   "gemm, step: edge of the square product whose rate is the peak")
      ->type_name("N")
      ->check(CLI::Range(int64_t{16}, int64_t{1} << 16))
      ->capture_default_str();
  command
      ->add_option("--max-bytes", flags->most_bytes,
                   "all-to-all: the most that goes from one rank to another at once")
      ->type_name("BYTES")
      ->check(CLI::Range(int64_t{1024}, int64_t{256} << 20))
      ->capture_default_str();
  command->add_flag("--balanced", flags->balanced,
                    "step: a fixed router that spreads tokens evenly, in place of the run's");
  command->add_option("--note", flags->note, "step: kept with the result")->type_name("WORDS");
  command->add_flag("--json", flags->json, "One JSON object on stdout");
  command->footer(
      "Comparisons run in turn (A B A B) from barrier to barrier; medians are over quiet rounds "
      "where there are 5, slowest and fastest beside them. all-to-all needs mpirun. Leave the "
      "machine alone meanwhile.\n"
      "Example: switchyard bench gemm --config configs/bench/w1.yaml --set parallel.expert=1\n"
      "Example: mpirun -n 2 switchyard bench step --config configs/bench/w1.yaml --json");
  return {command, [flags](const Runtime& runtime) { return run_bench(*flags, runtime); }};
}

}  // namespace switchyard
