#pragma once

#include <ATen/ATen.h>

#include <barrier>
#include <exception>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "distributed/communicator.h"

namespace switchyard {

/// What the ranks of a world of threads share.
struct ThreadWorld {
  explicit ThreadWorld(int ranks) : size(ranks), meet(ranks), slots(ranks) {}
  int size;
  std::barrier<> meet;
  std::vector<at::Tensor> slots;
};

/// Ranks as threads of one process: the collectives that checkpoints use.
class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(int rank, ThreadWorld& world)
      : Communicator(rank, world.size, "threads"), world_(world) {}

  void all_gather(const at::Tensor& input, at::Tensor& output, const char*) override {
    world_.slots[rank()] = input.clone();
    world_.meet.arrive_and_wait();
    output.copy_(at::cat(world_.slots).view_as(output));
    world_.meet.arrive_and_wait();
  }
  void broadcast(at::Tensor& x, int root, const char*) override {
    if (rank() == root) world_.slots[root] = x.clone();
    world_.meet.arrive_and_wait();
    x.copy_(world_.slots[root]);
    world_.meet.arrive_and_wait();
  }
  void all_reduce(at::Tensor& x, ReduceOp op, const char*) override {
    world_.slots[rank()] = x.clone();
    world_.meet.arrive_and_wait();
    const at::Tensor all = at::stack(world_.slots);
    x.copy_(op == ReduceOp::kSum ? all.sum(0) : std::get<0>(all.max(0)));
    world_.meet.arrive_and_wait();
  }
  void barrier(const char*) override { world_.meet.arrive_and_wait(); }

  void reduce_scatter(const at::Tensor&, at::Tensor&, const char*) override { refuse(); }
  void reduce_scatter_uneven(const at::Tensor&, const std::vector<int64_t>&, at::Tensor&,
                             const char*) override {
    refuse();
  }
  std::unique_ptr<UnderWay> start_all_to_all(const at::Tensor&, const RowBlocks&, at::Tensor&,
                                             const RowBlocks&, const char*) override {
    refuse();
    return nullptr;
  }

 private:
  static void refuse() { TORCH_CHECK(false, "no checkpoint needs this collective"); }
  ThreadWorld& world_;
};

/// Runs `body` on so many ranks; returns what each threw, "" for nothing.
inline std::vector<std::string> run_ranks(int ranks,
                                          const std::function<void(Communicator&)>& body) {
  ThreadWorld world(ranks);
  std::vector<std::string> thrown(ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      ThreadCommunicator communicator(rank, world);
      try {
        body(communicator);
      } catch (const std::exception& error) {
        thrown[rank] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return thrown;
}

}  // namespace switchyard
