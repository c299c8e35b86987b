#include "bench/rounds.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <numeric>
#include <string>
#include <thread>

#include "ops/host_copy.h"

namespace switchyard {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Busy seconds: of the whole machine, and of this job's ranks.
struct Busy {
  double machine = 0, ours = 0;
};

double busy_seconds_of_machine() {
  // cpu user nice system idle iowait irq softirq steal
  std::ifstream stat("/proc/stat");
  std::string word;
  stat >> word;
  std::array<double, 8> ticks{};
  for (double& t : ticks) stat >> t;
  const double all = std::accumulate(ticks.begin(), ticks.end(), 0.0);
  return (all - ticks[3] - ticks[4]) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

Busy busy_seconds(Communicator& world) {
  timespec own{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
  at::Tensor sum = at::full(
      {1}, static_cast<double>(own.tv_sec) + 1e-9 * static_cast<double>(own.tv_nsec), at::kDouble);
  world.all_reduce(sum, ReduceOp::kSum, "processor time of the ranks");
  return {busy_seconds_of_machine(), sum.item<double>()};
}

bool was_quiet(const Busy& before, const Busy& after, double seconds) {
  const double others = (after.machine - before.machine) - (after.ours - before.ours);
  const auto cores = static_cast<double>(sysconf(_SC_NPROCESSORS_ONLN));
  constexpr double kTick = 0.01;  // what /proc/stat counts in
  return others < 0.05 * cores * seconds + kTick;
}

/// Rank 0's answer, on all ranks.
int64_t agree(Communicator& world, int64_t answer) {
  at::Tensor x = at::full({1}, answer, at::kLong);
  world.broadcast(x, 0, "rounds of a measurement");
  return x.item<int64_t>();
}

}  // namespace

void Samples::add(double seconds, bool quiet) {
  all_.push_back(seconds);
  if (quiet) quiet_.push_back(seconds);
}

double Samples::median() const {
  std::vector<double> sorted = used();
  std::ranges::sort(sorted);
  const size_t n = sorted.size();
  return n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

double Samples::min() const { return *std::ranges::min_element(used()); }

double Samples::max() const { return *std::ranges::max_element(used()); }

std::vector<Samples> time_in_turn(Communicator& world, const Rounds& rounds,
                                  const std::vector<std::function<void()>>& bodies) {
  std::vector<Samples> samples(bodies.size());
  const Clock::time_point start = Clock::now();
  for (int64_t round = 0;; ++round) {
    int64_t quiet = rounds.quiet;
    for (size_t b = 0; b < bodies.size(); ++b) {
      const Busy before = busy_seconds(world);
      world.barrier("start of a measurement");
      const Clock::time_point began = Clock::now();
      bodies[b]();
      wait_for(rounds.device);
      world.barrier("end of a measurement");
      const double seconds = seconds_since(began);
      const Busy after = busy_seconds(world);
      if (round == 0) samples[b].set_first(seconds);
      if (round >= rounds.warmup) samples[b].add(seconds, was_quiet(before, after, seconds));
      quiet = std::min(quiet, samples[b].quiet());
    }
    const int64_t counted = round + 1 - rounds.warmup;
    const bool late = seconds_since(start) > rounds.seconds && counted >= 3;
    if (agree(world, counted > 0 && (quiet >= rounds.quiet || late))) return samples;
  }
}

int64_t repeats(Communicator& world, const std::function<void()>& body, double seconds,
                c10::Device device) {
  body();
  wait_for(device);
  int64_t calls = 1;
  while (true) {
    const Clock::time_point start = Clock::now();
    for (int64_t i = 0; i < calls; ++i) body();
    wait_for(device);
    const double taken = seconds_since(start);
    const auto wanted =
        static_cast<int64_t>(static_cast<double>(calls) * seconds / std::max(taken, 1e-9));
    const bool enough = agree(world, taken >= seconds / 4) != 0;
    if (enough) return std::max<int64_t>(1, agree(world, wanted));
    calls *= 4;
  }
}

void use_threads(const Runtime& runtime, int64_t threads) {
  const auto cores = static_cast<int64_t>(std::thread::hardware_concurrency());
  const int64_t shared = std::max<int64_t>(1, cores / runtime.local_size());
  at::set_num_threads(static_cast<int>(threads > 0 ? threads : shared));
}

std::array<double, 3> load_average() {
  std::array<double, 3> load{};
  getloadavg(load.data(), static_cast<int>(load.size()));
  return load;
}

nlohmann::json described(const char* bench, const Communicator& world) {
  return {{"bench", bench},
          {"ranks", world.size()},
          {"threads", at::get_num_threads()},
          {"load_average", load_average()}};
}

void put_times(nlohmann::json& row, const std::string& name, const Samples& samples,
               int64_t calls) {
  const auto n = static_cast<double>(calls);
  row[name + "_s"] = samples.median() / n;
  row[name + "_s_min"] = samples.min() / n;
  row[name + "_s_max"] = samples.max() / n;
  row["rounds"] = samples.rounds();
  row["quiet"] = samples.quiet();
}

}  // namespace switchyard
