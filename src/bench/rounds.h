#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <vector>

#include "distributed/communicator.h"
#include "distributed/runtime.h"

namespace switchyard {

/// How often something is timed.
struct Rounds {
  int64_t warmup = 3;             // rounds that do not count
  int64_t quiet = 10;             // rounds to have in which other programs did next to nothing
  double seconds = 60;            // when to end with less, though with 3 rounds
  c10::Device device = at::kCPU;  // what computes: it has done what a body gives it in its time
};

/// Times of one thing. A sample is quiet when other programs took less than 5 % of this
/// machine's processors meanwhile; statistics are over the quiet ones where there are at least
/// 5, else over all.
class Samples {
 public:
  void add(double seconds, bool quiet);
  void set_first(double seconds) { first_ = seconds; }

  int64_t rounds() const { return static_cast<int64_t>(all_.size()); }
  int64_t quiet() const { return static_cast<int64_t>(quiet_.size()); }
  double first() const { return first_; }  // of the warm-up
  double median() const;
  double min() const;
  double max() const;

 private:
  const std::vector<double>& used() const { return quiet_.size() >= 5 ? quiet_ : all_; }

  std::vector<double> all_, quiet_;
  double first_ = 0;
};

/// The one timing loop: each round runs all bodies in turn (A B A B), each from a barrier to a
/// barrier. What the ranks measure differs by microseconds; rank 0 decides when to
/// stop. Collective over `world`.
std::vector<Samples> time_in_turn(Communicator& world, const Rounds& rounds,
                                  const std::vector<std::function<void()>>& bodies);

/// How often to call something so short that the clock or a barrier would show: until about
/// `seconds`, the same on all ranks. Calls it a few times. Collective over `world`.
int64_t repeats(Communicator& world, const std::function<void()>& body, double seconds = 5e-3,
                c10::Device device = at::kCPU);

/// Threads of this rank from here on: `threads`, or with 0 this host's cores shared out.
void use_threads(const Runtime& runtime, int64_t threads);

/// Over 1, 5 and 15 minutes.
std::array<double, 3> load_average();

/// Keys of every result: "bench", "ranks", "threads" and the load average now.
nlohmann::json described(const char* bench, const Communicator& world);

/// {"NAME_s": median, "NAME_s_min", "NAME_s_max"} and the rounds, into `row`.
void put_times(nlohmann::json& row, const std::string& name, const Samples& samples,
               int64_t calls = 1);

}  // namespace switchyard
