#pragma once

#include <cstdint>

// Stable counting sort in two passes. A block is one warp, and goes through kPairsPerBlock pairs in
// ascending order, as many at a time as it has lanes: lanes whose pairs are of one bucket find each
// other, and stand in lane order. Buckets: the experts, then that of the dropped pairs.

namespace switchyard::cuda {

constexpr int kPairsPerBlock = 256;

/// A pair's lane mates of the same bucket: how many stand before it, and how many there are.
struct Mates {
  int before, all;
};
__device__ inline Mates find_mates(int bucket) {
  const unsigned mates = __match_any_sync(0xFFFFFFFF, bucket);
  return {__popc(mates & ((1U << threadIdx.x) - 1)), __popc(mates)};
}

/// Calls body(pair, bucket, mates) for the block's pairs, on all lanes at once: the bucket of a
/// lane behind the last pair is -1.
template <class Body>
__device__ void for_each_pair(const int64_t* experts, const bool* kept, int64_t pairs,
                              int num_experts, const Body& body) {
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kPairsPerBlock;
  for (int i = 0; i < kPairsPerBlock; i += 32) {
    const int64_t pair = begin + i + threadIdx.x;
    int bucket = -1;
    if (pair < pairs) bucket = kept[pair] ? static_cast<int>(experts[pair]) : num_experts;
    body(pair, bucket, find_mates(bucket));
    __syncwarp();
  }
}

/// counts (E + 1, blocks): pairs of each bucket in each block.
__global__ inline void count_pairs_kernel(const int64_t* experts, const bool* kept, int64_t pairs,
                                          int num_experts, int64_t* counts) {
  extern __shared__ int64_t of_bucket[];
  for (int e = threadIdx.x; e <= num_experts; e += 32) of_bucket[e] = 0;
  __syncwarp();
  for_each_pair(experts, kept, pairs, num_experts, [&](int64_t, int bucket, const Mates& mates) {
    if (bucket >= 0 && mates.before == 0) of_bucket[bucket] += mates.all;
  });
  for (int e = threadIdx.x; e <= num_experts; e += 32) {
    counts[static_cast<int64_t>(e) * gridDim.x + blockIdx.x] = of_bucket[e];
  }
}

/// order and slots from begins (E + 1, blocks): the place of each block's first pair of a bucket.
__global__ inline void place_pairs_kernel(const int64_t* experts, const bool* kept, int64_t pairs,
                                          int num_experts, const int64_t* begins, int64_t* order,
                                          int64_t* slots) {
  extern __shared__ int64_t of_bucket[];
  for (int e = threadIdx.x; e <= num_experts; e += 32) {
    of_bucket[e] = begins[static_cast<int64_t>(e) * gridDim.x + blockIdx.x];
  }
  __syncwarp();
  for_each_pair(experts, kept, pairs, num_experts,
                [&](int64_t pair, int bucket, const Mates& mates) {
                  const int64_t place = bucket < 0 ? 0 : of_bucket[bucket] + mates.before;
                  __syncwarp();  // all have read before one goes on
                  if (bucket < 0) return;
                  if (mates.before == 0) of_bucket[bucket] += mates.all;
                  order[place] = pair;
                  slots[pair] = bucket == num_experts ? -1 : place;
                });
}

}  // namespace switchyard::cuda
