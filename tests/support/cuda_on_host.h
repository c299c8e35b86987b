#pragma once

#include <barrier>
#include <bit>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

// CUDA's words for kernels, on the host: to be included before a .cuh, whose kernels then are
// functions, and `run_kernel` runs them block by block, a thread of this process for each of
// CUDA's. What it shows is that indices, sums and steps between lanes are right, not how fast they
// are.

#define __global__
#define __device__
#define __shared__

namespace switchyard::cuda_on_host {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

/// 32 threads that meet, and show each other a number.
struct Warp {
  explicit Warp(int lanes) : meet(lanes) {}
  std::barrier<> meet;
  uint64_t shown[32] = {};
};

inline thread_local Dim3 thread_index, block_index;
inline thread_local Warp* warp = nullptr;
inline Dim3 block_size, grid_size;

inline unsigned lane() { return (thread_index.y * block_size.x + thread_index.x) % 32; }

/// Runs kernel(arguments...) as <<<grid, block>>> does. Blocks are of whole warps.
template <class Kernel, class... Arguments>
void run_kernel(Dim3 grid, Dim3 block, const Kernel& kernel, const Arguments&... arguments) {
  grid_size = grid;
  block_size = block;
  const unsigned threads = block.x * block.y;
  for (unsigned b = 0; b < grid.x * grid.y; ++b) {
    std::vector<std::unique_ptr<Warp>> warps;
    for (unsigned w = 0; w < threads / 32; ++w) warps.push_back(std::make_unique<Warp>(32));
    std::vector<std::thread> running;
    for (unsigned t = 0; t < threads; ++t) {
      running.emplace_back([&, t] {
        thread_index = {t % block.x, t / block.x, 0};
        block_index = {b % grid.x, b / grid.x, 0};
        warp = warps[t / 32].get();
        kernel(arguments...);
        warp->meet.arrive_and_drop();  // those that go on do not wait for this one
      });
    }
    for (std::thread& thread : running) thread.join();
  }
}

}  // namespace switchyard::cuda_on_host

#define threadIdx switchyard::cuda_on_host::thread_index
#define blockIdx switchyard::cuda_on_host::block_index
#define blockDim switchyard::cuda_on_host::block_size
#define gridDim switchyard::cuda_on_host::grid_size

inline float __shfl_xor_sync(unsigned /*lanes*/, float x, int distance) {
  using namespace switchyard::cuda_on_host;
  warp->shown[lane()] = std::bit_cast<uint32_t>(x);
  warp->meet.arrive_and_wait();
  const auto seen = static_cast<uint32_t>(warp->shown[lane() ^ static_cast<unsigned>(distance)]);
  warp->meet.arrive_and_wait();
  return std::bit_cast<float>(seen);
}

inline unsigned __ballot_sync(unsigned /*lanes*/, bool answer) {
  using namespace switchyard::cuda_on_host;
  warp->shown[lane()] = answer ? 1 : 0;
  warp->meet.arrive_and_wait();
  unsigned answers = 0;
  for (unsigned l = 0; l < 32; ++l) answers |= static_cast<unsigned>(warp->shown[l]) << l;
  warp->meet.arrive_and_wait();
  return answers;
}

inline unsigned __match_any_sync(unsigned /*lanes*/, int value) {
  using namespace switchyard::cuda_on_host;
  warp->shown[lane()] = static_cast<uint32_t>(value);
  warp->meet.arrive_and_wait();
  unsigned equal = 0;
  for (unsigned l = 0; l < 32; ++l) {
    if (warp->shown[l] == static_cast<uint32_t>(value)) equal |= 1U << l;
  }
  warp->meet.arrive_and_wait();
  return equal;
}

inline void __syncwarp() { switchyard::cuda_on_host::warp->meet.arrive_and_wait(); }
inline int __popc(unsigned bits) { return std::popcount(bits); }
