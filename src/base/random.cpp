#include "base/random.h"

#include <cmath>
#include <numbers>

namespace switchyard {

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0], product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

uint64_t hash_name(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325ULL;
  for (const char c : name) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001B3ULL;
  }
  return hash;
}

namespace {

std::array<uint32_t, 2> make_key(uint64_t seed, std::string_view purpose) {
  const uint64_t name = hash_name(purpose);
  const auto mixed =
      philox4x32({static_cast<uint32_t>(name), static_cast<uint32_t>(name >> 32), 0, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return {mixed[0], mixed[1]};
}

float to_unit(uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1.0p-24F; }

}  // namespace

RandomStream::RandomStream(uint64_t seed, std::string_view purpose)
    : key_(make_key(seed, purpose)) {}

std::array<uint32_t, 4> RandomStream::block(uint64_t block, uint64_t stream) const {
  return philox4x32({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                     static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)},
                    key_);
}

float RandomStream::uniform(uint64_t index, uint64_t stream) const {
  return to_unit(block(index / 4, stream)[index % 4]);
}

float RandomStream::normal(uint64_t index, uint64_t stream) const {
  const auto bits = block(index / 2, stream);
  const uint64_t pair = index % 2 * 2;
  const float radius = std::sqrt(-2.0F * std::log(1.0F - to_unit(bits[pair])));
  return radius * std::cos(2.0F * std::numbers::pi_v<float> * to_unit(bits[pair + 1]));
}

float RandomStream::truncated_normal(uint64_t index, float limit, uint64_t stream) const {
  for (uint64_t attempt = 0;; ++attempt) {
    const float x = normal(index, stream + (attempt << 32));
    if (std::abs(x) <= limit) return x;
  }
}

Permutation::Permutation(uint64_t n, uint64_t seed, std::string_view purpose, uint64_t epoch)
    : n_(n), half_bits_(1), key_(make_key(seed, purpose)) {
  while (half_bits_ < 32 && (uint64_t{1} << (2 * half_bits_)) < n) ++half_bits_;
  const auto mixed =
      philox4x32({static_cast<uint32_t>(epoch), static_cast<uint32_t>(epoch >> 32), 1, 0}, key_);
  key_ = {mixed[0], mixed[1]};
}

uint64_t Permutation::operator()(uint64_t i) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  do {
    uint64_t left = i >> half_bits_, right = i & mask;
    for (uint32_t round = 0; round < 4; ++round) {
      const uint64_t mixed =
          philox4x32({static_cast<uint32_t>(right), round, 0, 0}, key_)[0] & mask;
      const uint64_t next = left ^ mixed;
      left = right;
      right = next;
    }
    i = left << half_bits_ | right;
  } while (i >= n_);
  return i;
}

}  // namespace switchyard
