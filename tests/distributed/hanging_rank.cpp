#include <ATen/ATen.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <thread>

#include "base/error.h"
#include "distributed/runtime.h"
#include "distributed/watchdog.h"

// A job of five steps in which rank 1 goes wrong in the third, in the way that the first
// argument names; hanging_rank_test.sh runs it under mpirun. The second argument is
// the folder for the records. Hangs are ended after two seconds.

namespace switchyard {
namespace {

void sleep_seconds(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

/// The ways of rank 1 that end outside the collective. Returns for other words.
void go_wrong(const std::string& way) {
  if (way == "stop") ::raise(SIGSTOP);
  if (way == "kill") ::raise(SIGKILL);
  if (way == "segv") ::raise(SIGSEGV);
  if (way == "abort") std::abort();
  if (way == "exit0") std::exit(0);
  if (way == "exit3") std::exit(3);
  if (way == "terminate") std::terminate();
  if (way == "bad_alloc") throw std::bad_alloc();
  if (way == "launcher") ::kill(::getppid(), SIGKILL);
  if (way == "spin") {
    for (std::atomic<int64_t> rounds = 0;; ++rounds) {
    }
  }
}

/// Every rank sends one row to each; under "counts" rank 1 none to rank 0, which expects it.
void dispatch(Communicator& group, bool wrong_counts) {
  std::vector<int64_t> send(group.size(), 1);
  const std::vector<int64_t> recv(group.size(), 1);
  if (wrong_counts) send[0] = 0;
  const int64_t rows = wrong_counts ? group.size() - 1 : group.size();
  group.all_to_all(at::ones({rows, 4}), send, recv, "dispatch in layer 3");
}

/// Two parts of an exchange, long enough for MPI to need both sides. Rank 1 may compute for ever
/// on the first, or leave out the second.
void dispatch_in_chunks(Communicator& group, const std::string& way) {
  const RowBlocks blocks = RowBlocks::in_order(std::vector<int64_t>(group.size(), 1));
  const at::Tensor input = at::ones({group.size(), 1 << 18});
  at::Tensor first = at::empty_like(input), second = at::empty_like(input);
  const auto start = [&](at::Tensor& output) {
    return group.start_all_to_all(input, blocks, output, blocks, "dispatch in layer 4");
  };
  const auto first_rows = start(first);
  const auto second_rows = way == "skip_chunk" ? nullptr : start(second);
  first_rows->wait();
  if (way == "spin_chunk") go_wrong("spin");
  if (second_rows) second_rows->wait();
}

void run_step(const Runtime& runtime, const Mesh& mesh, const std::string& way) {
  {
    const FlightRecord::Phase phase(runtime.record(), "forward");
    go_wrong(way);
    if (way == "other") mesh.world->barrier("nobody else comes here");
    if (way != "skip_dispatch") {
      dispatch(*mesh.expert, way == "counts");
      dispatch_in_chunks(*mesh.expert, way);
    }
  }
  const FlightRecord::Phase phase(runtime.record(), "reduce");
  at::Tensor gradients = at::ones({16});
  if (way != "skip") mesh.world->all_reduce(gradients, ReduceOp::kSum, "gradients");
  mesh.world->barrier("end of the step");
}

/// Stands for work on a GPU, which says when it is aborted; a dead one does not come back.
class Gpu final : public Communicator {
 public:
  explicit Gpu(const std::string& way) : Communicator(0, 1, "gpu"), dead_(way == "dead_gpu") {}

  void all_reduce(at::Tensor& /*x*/, ReduceOp /*op*/, const char* /*purpose*/) override {}
  void reduce_scatter(const at::Tensor& /*input*/, at::Tensor& /*output*/,
                      const char* /*purpose*/) override {}
  void reduce_scatter_uneven(const at::Tensor& /*input*/, const std::vector<int64_t>& /*counts*/,
                             at::Tensor& /*output*/, const char* /*purpose*/) override {}
  void all_gather(const at::Tensor& /*input*/, at::Tensor& /*output*/,
                  const char* /*purpose*/) override {}
  void broadcast(at::Tensor& /*x*/, int /*root*/, const char* /*purpose*/) override {}
  std::unique_ptr<UnderWay> start_all_to_all(const at::Tensor& /*input*/, const RowBlocks& /*send*/,
                                             at::Tensor& /*output*/, const RowBlocks& /*recv*/,
                                             const char* /*purpose*/) override {
    return nullptr;
  }
  void barrier(const char* /*purpose*/) override {}

  void abort() override {
    ::dprintf(STDERR_FILENO, "aborted\n");
    if (dead_) sleep_seconds(60);
  }

 private:
  const bool dead_;
};

void run_job(const Runtime& runtime, const std::string& way, const std::string& folder) {
  const Mesh mesh = runtime.make_mesh({runtime.world_size(), "expert_inner"});
  FlightRecord& record = runtime.record();
  record.open(folder);
  const bool with_gpu = way.ends_with("gpu");
  Gpu gpu(way);
  std::vector<Communicator*> groups = {mesh.world.get(), mesh.expert.get()};
  if (with_gpu) groups.push_back(&gpu);
  const Watchdog watchdog(record, *mesh.world, {.timeout_seconds = 2, .save_timeout_seconds = 60},
                          groups);
  for (int64_t step = 1; step <= 5; ++step) {
    record.set_step(step);
    const bool wrong = step == 3 && runtime.rank() == 1;
    run_step(runtime, mesh, wrong ? (with_gpu ? "spin" : way) : "");
    if (step == 2) {
      const FlightRecord::Phase phase(record, "save");
      if (way == "slow_save" && runtime.rank() == 1) sleep_seconds(4);
      mesh.world->barrier("saved");
      record.set_last_checkpoint("runs/r/checkpoints/step-00000002");
    }
  }
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  switchyard::Runtime runtime(argc, argv);
  try {
    switchyard::run_job(runtime, argv[1], argv[2]);
  } catch (const switchyard::Error& error) {
    runtime.abort_job(error.what(), error.exit_code);
  } catch (const std::exception& error) {
    runtime.abort_job(error.what(), switchyard::kExitBug);
  }
}
