#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "base/file.h"
#include "checkpoint/checkpoint_saver.h"
#include "checkpoint/retention.h"
#include "distributed/runtime.h"

// mpirun -n N save_benchmark FOLDER PARAMETERS ROUNDS
//
// What a save costs beside the machine's own means, over the same bytes, in turn: training's
// wait for a background save against a plain memory copy, and a save that training waits
// for, without reading back, against `dd conv=fsync`, one of each per rank at a time.
// A parameter takes 14 bytes, as in bfloat16 with master and two moments. Each number is
// the slowest rank's; medians with least and most.

namespace switchyard {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kBytesPerParameter = 14;

/// Deleting is no part of a save: it is done between the rounds.
constexpr int64_t kKeepAll = 1 << 20;

constexpr int64_t kTensorElements = int64_t{4} << 20;

/// This rank's share of so many parameters, as tensors of 16 MiB.
std::vector<at::Tensor> make_tensors(int64_t parameters, const Communicator& world) {
  std::vector<at::Tensor> tensors;
  int64_t left = parameters * kBytesPerParameter / 4 / world.size();
  for (; left > 0; left -= kTensorElements) {
    tensors.push_back(at::rand({std::min(left, kTensorElements)}));
  }
  return tensors;
}

std::vector<OwnedSlice> slices_of(const std::vector<at::Tensor>& tensors, int rank) {
  std::vector<OwnedSlice> slices;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const int64_t n = tensors[i].numel();
    slices.push_back({"rank" + std::to_string(rank) + ".tensor" + std::to_string(i),
                      {n},
                      "F32",
                      "dense",
                      0,
                      n,
                      tensors[i].data_ptr()});
  }
  return slices;
}

/// Seconds of the slowest rank. Collective.
template <typename Work>
double slowest(Communicator& world, Work&& work) {
  world.barrier("together");
  const Clock::time_point start = Clock::now();
  work();
  at::Tensor seconds =
      at::full({1}, std::chrono::duration<double>(Clock::now() - start).count(), at::kDouble);
  world.all_reduce(seconds, ReduceOp::kMax, "the slowest");
  return seconds.item<double>();
}

void copy_all(const std::vector<at::Tensor>& from, char* to) {
  for (const at::Tensor& tensor : from) {
    const auto* bytes = static_cast<const char*>(tensor.data_ptr());
    at::parallel_for(
        0, static_cast<int64_t>(tensor.nbytes()), int64_t{4} << 20,
        [&](int64_t begin, int64_t end) { std::memcpy(to + begin, bytes + begin, end - begin); });
    to += tensor.nbytes();
  }
}

void write_with_dd(const std::string& path, int64_t bytes) {
  const std::string command = "dd if=/dev/zero of=" + path +
                              " bs=4M iflag=count_bytes count=" + std::to_string(bytes) +
                              " conv=fsync 2>/dev/null";
  if (std::system(command.c_str()) != 0) std::abort();
}

CheckpointInfo info_of(int64_t step) {
  CheckpointInfo info;
  info.step = step;
  info.config_yaml = "run: {name: benchmark}\n";
  return info;
}

struct Series {
  const char* name;
  std::vector<double> seconds;

  double median() {
    std::sort(seconds.begin(), seconds.end());
    return seconds[seconds.size() / 2];
  }
  void print(double gigabytes) {
    const double middle = median();
    std::printf("%-42s %7.3f s (%.3f to %.3f), %6.2f GB/s\n", name, middle, seconds.front(),
                seconds.back(), gigabytes / middle);
  }
};

void run(Communicator& world, const std::string& folder, int64_t parameters, int rounds) {
  const std::vector<at::Tensor> tensors = make_tensors(parameters, world);
  const std::vector<OwnedSlice> slices = slices_of(tensors, world.rank());
  int64_t bytes = 0;
  for (const at::Tensor& tensor : tensors) bytes += static_cast<int64_t>(tensor.nbytes());
  const auto target = std::make_unique<char[]>(bytes);
  CheckpointSaver plain(world, {folder, kKeepAll, /*read_back=*/false});
  CheckpointSaver checked(world, {folder, kKeepAll, /*read_back=*/true});
  const std::string dd_file = folder + "/dd." + std::to_string(world.rank());
  Series copy{"memory copy", {}}, stall{"background save: training waits", {}},
      whole{"background save: until published", {}}, dd{"dd conv=fsync", {}},
      sync{"save without reading back", {}}, sync_checked{"save", {}};
  int64_t step = 0;
  checked.start(info_of(++step), slices);  // its copy's pages are there from the second on
  checked.finish();
  for (int round = 0; round < rounds; ++round) {
    copy.seconds.push_back(slowest(world, [&] { copy_all(tensors, target.get()); }));
    stall.seconds.push_back(slowest(world, [&] { checked.start(info_of(++step), slices); }));
    whole.seconds.push_back(checked.finish()->seconds);
    dd.seconds.push_back(slowest(world, [&] { write_with_dd(dd_file, bytes); }));
    remove_tree(dd_file);
    sync.seconds.push_back(plain.save(info_of(++step), slices).seconds);
    sync_checked.seconds.push_back(checked.save(info_of(++step), slices).seconds);
    if (world.rank() == 0) retain(folder, /*keep=*/1);
  }
  if (world.rank() != 0) return;
  const double gigabytes = static_cast<double>(bytes) * world.size() / 1e9;
  std::printf(
      "%d ranks, %.1f M parameters, %.2f GB, %d rounds, slowest rank, median (least to most)\n",
      world.size(), static_cast<double>(parameters) / 1e6, gigabytes, rounds);
  for (Series* series : {&copy, &stall, &whole, &dd, &sync, &sync_checked})
    series->print(gigabytes);
  std::printf("waiting / memory copy                      %7.2f\n", stall.median() / copy.median());
  std::printf("waiting / save                             %7.3f\n",
              stall.median() / sync_checked.median());
  std::printf("speed of a save without reading back / dd  %7.2f\n", dd.median() / sync.median());
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  const switchyard::Runtime runtime(argc, argv);
  if (argc != 4) {
    std::fputs("save_benchmark FOLDER PARAMETERS ROUNDS\n", stderr);
    return 2;
  }
  at::set_num_threads(1);
  const switchyard::Mesh mesh = runtime.make_mesh({});
  switchyard::run(*mesh.world, argv[1], std::atoll(argv[2]), std::atoi(argv[3]));
}
