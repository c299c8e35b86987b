#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace switchyard {

/// Counter-based randomness: Philox4x32-10 (Salmon et al., "Parallel random
/// numbers: as easy as 1, 2, 3", SC'11). A draw is a pure function of a key and
/// a counter, so there is no state to save, a sharded draw equals the unsharded
/// one, and a recomputation repeats itself.
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

/// 64-bit FNV-1a of a name: part of a key.
uint64_t hash_name(std::string_view name);

/// A family of draws. The key is made of the run's seed and the purpose's name
/// ("init/model.layers.0.mlp.gate.weight", "router_jitter/3", ...); draws are
/// indexed by (index, stream): index counts elements of a tensor, stream is a
/// sample id, a step, or 0.
class RandomStream {
 public:
  RandomStream(uint64_t seed, std::string_view purpose);

  /// Philox's, for those who draw blocks elsewhere than on the host.
  const std::array<uint32_t, 2>& key() const { return key_; }

  /// Uniform 32 random bits for each of the four lanes of (block, stream).
  std::array<uint32_t, 4> block(uint64_t block, uint64_t stream) const;

  /// Uniform in [0, 1) with 24 bits.
  float uniform(uint64_t index, uint64_t stream = 0) const;

  /// Standard normal (Box-Muller over two lanes of the same block).
  float normal(uint64_t index, uint64_t stream = 0) const;

  /// Standard normal, redrawn until |x| <= limit: the truncated normal of
  /// Switch Transformers section 2.4. A redraw takes the next sub-stream, so
  /// the result is still a function of (index, stream).
  float truncated_normal(uint64_t index, float limit, uint64_t stream = 0) const;

 private:
  std::array<uint32_t, 2> key_;
};

/// A keyed bijection of [0, n): a 4-round Feistel network over the next power
/// of four, walked until it lands inside (cycle walking). Used for the order of
/// samples. O(1) memory, random access.
///
///   n  >= 1
class Permutation {
 public:
  Permutation(uint64_t n, uint64_t seed, std::string_view purpose, uint64_t epoch);
  uint64_t operator()(uint64_t i) const;

 private:
  uint64_t n_;
  uint32_t half_bits_;
  std::array<uint32_t, 2> key_;
};

}  // namespace switchyard
