#include "data/nfc.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "data/nfc_tables.h"

namespace switchyard {
namespace {

constexpr uint32_t kHangul = 0xAC00, kLead = 0x1100, kVowel = 0x1161, kTrail = 0x11A7;
constexpr uint32_t kLeads = 19, kVowels = 21, kTrails = 28;
constexpr uint32_t kSyllables = kLeads * kVowels * kTrails;

/// The tables, ready to be asked.
struct Canon {
  std::unordered_map<uint32_t, const Decomposition*> decompositions;
  std::unordered_map<uint64_t, uint32_t> compositions;
  std::unordered_set<uint32_t> seconds;  // may join the character before

  Canon() {
    for (const Decomposition& entry : kDecompositions) {
      decompositions[entry.character] = &entry;
      if (entry.composes == 0 || entry.second == 0) continue;
      compositions[uint64_t{entry.first} << 32 | entry.second] = entry.character;
      seconds.insert(entry.second);
    }
  }
};

const Canon& canon() {
  static const Canon tables;
  return tables;
}

uint32_t combining_class(uint32_t character) {
  if (character < kCombiningRanges.front().first) return 0;
  const auto after = std::upper_bound(
      kCombiningRanges.begin(), kCombiningRanges.end(), character,
      [](uint32_t value, const CombiningRange& range) { return value < range.first; });
  const CombiningRange& range = *std::prev(after);
  return character <= range.last ? range.combining_class : 0;
}

bool is_in(uint32_t character, uint32_t first, uint32_t count) { return character - first < count; }

/// Whether normalisation can neither change the character nor move anything past it.
bool is_stable(uint32_t character) {
  if (character < kCombiningRanges.front().first) return true;  // below U+0300
  if (combining_class(character) != 0) return false;
  if (is_in(character, kVowel, kVowels) || is_in(character, kTrail + 1, kTrails - 1)) return false;
  const auto entry = canon().decompositions.find(character);
  if (entry != canon().decompositions.end() && entry->second->composes == 0) return false;
  return !canon().seconds.contains(character);
}

/// Reads the character at `at` of valid UTF-8 and moves behind it.
uint32_t next_character(std::string_view text, size_t& at) {
  const auto lead = static_cast<unsigned char>(text[at++]);
  if (lead < 0x80) return lead;
  const int more = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  uint32_t character = lead & (0x3FU >> more);
  for (int i = 0; i < more; ++i)
    character = character << 6 | (static_cast<unsigned char>(text[at++]) & 0x3F);
  return character;
}

void append_character(uint32_t character, std::string& out) {
  const auto put = [&out](uint32_t byte) { out += static_cast<char>(byte); };
  if (character < 0x80) {
    put(character);
    return;
  }
  const int more = character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
  put(((0xFF00U >> (more + 1)) & 0xFF) | character >> (6 * more));
  for (int i = more - 1; i >= 0; --i) put(0x80 | (character >> (6 * i) & 0x3F));
}

void decompose(uint32_t character, std::vector<uint32_t>& out) {
  if (is_in(character, kHangul, kSyllables)) {
    const uint32_t index = character - kHangul;
    out.push_back(kLead + index / (kVowels * kTrails));
    out.push_back(kVowel + index % (kVowels * kTrails) / kTrails);
    if (index % kTrails != 0) out.push_back(kTrail + index % kTrails);
    return;
  }
  const auto entry = canon().decompositions.find(character);
  if (entry == canon().decompositions.end()) {
    out.push_back(character);
    return;
  }
  decompose(entry->second->first, out);
  if (entry->second->second != 0) decompose(entry->second->second, out);
}

std::optional<uint32_t> compose(uint32_t first, uint32_t second) {
  if (is_in(first, kLead, kLeads) && is_in(second, kVowel, kVowels)) {
    return kHangul + ((first - kLead) * kVowels + (second - kVowel)) * kTrails;
  }
  if (is_in(first, kHangul, kSyllables) && (first - kHangul) % kTrails == 0 &&
      is_in(second, kTrail + 1, kTrails - 1)) {
    return first + (second - kTrail);
  }
  const auto found = canon().compositions.find(uint64_t{first} << 32 | second);
  if (found == canon().compositions.end()) return std::nullopt;
  return found->second;
}

/// Canonical ordering: runs of combining characters, by class, stable.
void reorder(std::vector<uint32_t>& characters) {
  for (auto begin = characters.begin(); begin != characters.end();) {
    const auto is_starter = [](uint32_t c) { return combining_class(c) == 0; };
    const auto end = std::find_if(begin, characters.end(), is_starter);
    std::stable_sort(
        begin, end, [](uint32_t a, uint32_t b) { return combining_class(a) < combining_class(b); });
    begin = end == characters.end() ? end : std::next(end);
  }
}

void compose_all(std::vector<uint32_t>& characters) {
  std::vector<uint32_t> out;
  std::optional<size_t> starter;
  uint32_t last_class = 0;
  for (const uint32_t character : characters) {
    const uint32_t own_class = combining_class(character);
    const bool adjacent = starter && *starter + 1 == out.size();
    if (starter && (adjacent || last_class < own_class)) {
      if (const auto joined = compose(out[*starter], character)) {
        out[*starter] = *joined;
        continue;
      }
    }
    if (own_class == 0) starter = out.size();
    last_class = own_class;
    out.push_back(character);
  }
  characters = std::move(out);
}

std::string normalized(std::string_view text) {
  std::vector<uint32_t> characters;
  for (size_t at = 0; at < text.size();) decompose(next_character(text, at), characters);
  reorder(characters);
  compose_all(characters);
  std::string out;
  for (const uint32_t character : characters) append_character(character, out);
  return out;
}

/// A stretch that normalisation may change: from the stable character before the
/// first unstable one, up to the next stable one. Both at the end if there is none.
struct Stretch {
  size_t begin, end;
};

Stretch find_stretch(std::string_view text, size_t from) {
  size_t stable = from;
  for (size_t at = from; at < text.size();) {
    const size_t here = at;
    if (is_stable(next_character(text, at))) {
      stable = here;
      continue;
    }
    for (size_t end = at; end < text.size();) {
      const size_t next = end;
      if (is_stable(next_character(text, end))) return {stable, next};
    }
    return {stable, text.size()};
  }
  return {text.size(), text.size()};
}

}  // namespace

std::string_view to_nfc(std::string_view text, std::string& storage) {
  storage.clear();
  size_t copied = 0;
  bool changed = false;
  for (size_t at = 0; at < text.size();) {
    const Stretch stretch = find_stretch(text, at);
    const std::string_view before = text.substr(stretch.begin, stretch.end - stretch.begin);
    const std::string after = normalized(before);
    if (after != before) {
      changed = true;
      storage += text.substr(copied, stretch.begin - copied);
      storage += after;
      copied = stretch.end;
    }
    at = stretch.end;
  }
  if (!changed) return text;
  storage += text.substr(copied);
  return storage;
}

}  // namespace switchyard
