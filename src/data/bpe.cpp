#include "data/bpe.h"

#include <queue>
#include <tuple>

namespace switchyard {
namespace {

constexpr size_t kLongestKnownWord = 64;
constexpr size_t kMostKnownIds = size_t{1} << 22;
constexpr int32_t kNone = -1;

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

/// A merge that may be done; the top of the queue is the next.
struct Candidate {
  int32_t rank, position, id;
  bool operator<(const Candidate& other) const {
    return std::tie(rank, position) > std::tie(other.rank, other.position);
  }
};

}  // namespace

void Bpe::add_merge(int32_t left, int32_t right, int32_t rank, int32_t merged) {
  merges_[pair_key(left, right)] = {rank, merged};
}

void Bpe::set_unknown(int32_t id, Unknown unknown) {
  unknown_ = id;
  unknown_runs_ = unknown;
}

void Bpe::encode(std::string_view word, std::vector<int32_t>& out) const {
  if (word.size() > kLongestKnownWord) {
    merge_word(word, out);
    return;
  }
  auto found = known_words_.find(word);
  if (found == known_words_.end()) {
    if (known_ids_.size() > kMostKnownIds) {
      known_words_.clear();
      known_ids_.clear();
    }
    const auto begin = static_cast<uint32_t>(known_ids_.size());
    merge_word(word, known_ids_);
    const Slice slice = {begin, static_cast<uint32_t>(known_ids_.size()) - begin};
    found = known_words_.emplace(word, slice).first;
  }
  const auto ids = known_ids_.begin() + found->second.begin;
  out.insert(out.end(), ids, ids + found->second.count);
}

void Bpe::make_symbols(std::string_view word) const {
  symbols_.clear();
  bool in_unknown = false;
  for (const char c : word) {
    int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    const bool unknown = id == kNone;
    if (unknown) {
      if (!unknown_ || (in_unknown && unknown_runs_ == Unknown::kFused)) continue;
      id = *unknown_;
    }
    in_unknown = unknown;
    const auto position = static_cast<int32_t>(symbols_.size());
    symbols_.push_back({id, position - 1, position + 1});
  }
  if (!symbols_.empty()) symbols_.back().next = kNone;
}

const Bpe::Merge* Bpe::merge_at(int32_t position) const {
  const int32_t next = symbols_[position].next;
  if (next == kNone) return nullptr;
  const auto found = merges_.find(pair_key(symbols_[position].id, symbols_[next].id));
  return found == merges_.end() ? nullptr : &found->second;
}

void Bpe::merge_word(std::string_view word, std::vector<int32_t>& out) const {
  if (const auto whole = whole_words_.find(word); whole != whole_words_.end()) {
    out.push_back(whole->second);
    return;
  }
  make_symbols(word);
  std::priority_queue<Candidate> queue;
  const auto offer = [&](int32_t position) {
    const Merge* merge = merge_at(position);
    if (merge != nullptr) queue.push({merge->rank, position, merge->id});
  };
  for (size_t i = 0; i < symbols_.size(); ++i) offer(static_cast<int32_t>(i));
  while (!queue.empty()) {
    const Candidate candidate = queue.top();
    queue.pop();
    Symbol& left = symbols_[candidate.position];
    // A symbol that was merged into its neighbour, or whose neighbour has changed.
    if (left.id == kNone) continue;
    const Merge* merge = merge_at(candidate.position);
    if (merge == nullptr || merge->id != candidate.id) continue;
    Symbol& right = symbols_[left.next];
    left.id = candidate.id;
    right.id = kNone;
    left.next = right.next;
    if (left.next != kNone) symbols_[left.next].previous = candidate.position;
    if (left.previous != kNone) offer(left.previous);
    offer(candidate.position);
  }
  for (const Symbol& symbol : symbols_) {
    if (symbol.id != kNone) out.push_back(symbol.id);
  }
}

}  // namespace switchyard
