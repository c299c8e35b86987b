#include "distributed/hang_report.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

namespace switchyard {
namespace {

using Ranks = std::vector<const RankState*>;

/// "rank 1 (host h, pid 12)", "ranks 0, 2, 3".
std::string name_of(const Ranks& ranks) {
  if (ranks.size() == 1) return name_of(*ranks[0]);
  std::string text = "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(ranks[i]->rank);
  }
  return text;
}

const char* is(const Ranks& ranks) { return ranks.size() == 1 ? " is " : " are "; }

/// Who says what: ranks by something they should agree on.
using Parties = std::map<std::string, Ranks>;

/// "rank 1 called A, ranks 0, 2, 3 called B", the smallest party first. Without a verb
/// it is "is" or "are".
std::string tell_apart(const Parties& parties, const char* verb = nullptr) {
  std::vector<std::pair<std::string, Ranks>> sorted(parties.begin(), parties.end());
  std::ranges::sort(sorted, {}, [](const auto& party) {
    return std::pair(party.second.size(), party.second[0]->rank);
  });
  std::string text;
  for (const auto& [what, ranks] : sorted) {
    if (!text.empty()) text += ", ";
    text += name_of(ranks) + (verb == nullptr ? is(ranks) : verb) + what;
  }
  return text;
}

const RecordedCollective* find(const RankState& state, const std::string& communicator,
                               int64_t number) {
  for (const RecordedCollective& call : state.collectives) {
    if (call.communicator == communicator && call.number == number) return &call;
  }
  return nullptr;
}

/// The ranks of one communicator, as far as their records are here.
struct Group {
  RecordedCommunicator communicator;
  Ranks ranks;

  /// Where a rank is in the communicator's order; -1 when it is not a member.
  int place_of(int rank) const {
    for (int i = 0; i < communicator.members.count; ++i) {
      if (communicator.members.at(i) == rank) return i;
    }
    return -1;
  }
  std::set<int64_t> numbers() const {
    std::set<int64_t> all;
    for (const RankState* rank : ranks) {
      for (const RecordedCollective& call : rank->collectives) {
        if (call.communicator == communicator.name) all.insert(call.number);
      }
    }
    return all;
  }
};

std::vector<Group> groups_of(const std::vector<SeenRank>& ranks) {
  std::vector<Group> groups;
  for (const SeenRank& seen : ranks) {
    for (const RecordedCommunicator& communicator : seen.state.communicators) {
      const auto found = std::ranges::find_if(groups, [&](const Group& group) {
        return group.communicator.name == communicator.name &&
               group.communicator.members == communicator.members;
      });
      Group& group = found == groups.end() ? groups.emplace_back(Group{communicator, {}}) : *found;
      group.ranks.push_back(&seen.state);
    }
  }
  return groups;
}

std::string stopped_or_gone(const std::vector<SeenRank>& ranks) {
  Ranks stopped, gone;
  for (const SeenRank& seen : ranks) {
    if (seen.process == ProcessState::kStopped) stopped.push_back(&seen.state);
    if (seen.process == ProcessState::kGone) gone.push_back(&seen.state);
  }
  std::string text;
  if (!stopped.empty()) text = name_of(stopped) + is(stopped) + "stopped (SIGSTOP or a debugger)";
  if (!gone.empty()) text += (text.empty() ? "" : ", ") + name_of(gone) + is(gone) + "gone";
  return text;
}

/// The call, as it has to be the same on all ranks.
std::string signature(const RecordedCollective& call) {
  const bool same_bytes = call.op != "all-to-all";
  return describe(call) + (same_bytes ? ", " + std::to_string(call.bytes) + " bytes" : "");
}

std::string different_calls(const Group& group) {
  for (const int64_t number : group.numbers()) {
    Parties parties;
    for (const RankState* rank : group.ranks) {
      const RecordedCollective* call = find(*rank, group.communicator.name, number);
      if (call != nullptr) parties[signature(*call)].push_back(rank);
    }
    if (parties.size() > 1) {
      return tell_apart(parties, " called ") + ": one skipped a collective or called another";
    }
  }
  return "";
}

/// What rank `to` expects of rank `from` in a call, when it is not what that one sends.
std::string different_rows(const Group& group, const RankState& from, const RankState& to,
                           const RecordedCollective& sent, const RecordedCollective& got) {
  const auto i = static_cast<size_t>(group.place_of(to.rank));
  const auto j = static_cast<size_t>(group.place_of(from.rank));
  if (i >= sent.rows_to.size() || j >= got.rows_from.size()) return "";
  if (sent.rows_to[i] == got.rows_from[j]) return "";
  return name_of(from) + " sends " + std::to_string(sent.rows_to[i]) + " rows to " + name_of(to) +
         ", which expects " + std::to_string(got.rows_from[j]) + ", in " + describe(sent);
}

std::string different_counts(const Group& group) {
  for (const int64_t number : group.numbers()) {
    for (const RankState* from : group.ranks) {
      const RecordedCollective* sent = find(*from, group.communicator.name, number);
      for (const RankState* to : group.ranks) {
        const RecordedCollective* got = find(*to, group.communicator.name, number);
        if (sent == nullptr || got == nullptr) continue;
        const std::string found = different_rows(group, *from, *to, *sent, *got);
        if (!found.empty()) return found;
      }
    }
  }
  return "";
}

/// Ranks that wait in a collective which all its ranks, on several hosts, have called, and
/// whose watchdogs all run: nobody is missing but the bytes between them.
std::string undelivered(const Group& group) {
  if (static_cast<int>(group.ranks.size()) < group.communicator.members.count) return "";
  std::set<std::string> hosts;
  for (const RankState* rank : group.ranks) {
    if (rank->status != RankStatus::kHung && rank->status != RankStatus::kEnding) return "";
    hosts.insert(rank->host);
  }
  if (hosts.size() < 2) return "";
  for (const int64_t number : group.numbers()) {
    Ranks waiting, called;
    for (const RankState* rank : group.ranks) {
      const RecordedCollective* call = find(*rank, group.communicator.name, number);
      if (call != nullptr) called.push_back(rank);
      if (call != nullptr && call == rank->inside()) waiting.push_back(rank);
    }
    if (waiting.empty() || called.size() < group.ranks.size()) continue;
    std::string between;
    for (const std::string& host : hosts) between += (between.empty() ? "" : ", ") + host;
    return name_of(waiting) + (waiting.size() == 1 ? " waits" : " wait") + " in " +
           describe(*waiting[0]->inside()) + ", which " + name_of(called) +
           " have called: what was sent does not arrive; look at the network between hosts " +
           between;
  }
  return "";
}

/// Ranks that others wait for in a collective which they have not entered, or do not attend to.
Ranks waited_for(const std::vector<Group>& groups) {
  std::map<int, const RankState*> found;
  for (const Group& group : groups) {
    for (const RankState* waiting : group.ranks) {
      const RecordedCollective* inside = waiting->inside();
      if (inside == nullptr || inside->communicator != group.communicator.name) continue;
      for (const RankState* rank : group.ranks) {
        const RecordedCollective* call = find(*rank, inside->communicator, inside->number);
        if (call == nullptr || call->under_way) found[rank->rank] = rank;
      }
    }
  }
  Ranks ranks;
  for (const auto& [number, rank] : found) ranks.push_back(rank);
  return ranks;
}

std::string by_whereabouts(const std::vector<SeenRank>& ranks, const std::vector<Group>& groups) {
  Ranks outside = waited_for(groups);
  std::erase_if(outside, [](const RankState* rank) { return rank->inside() != nullptr; });
  if (!outside.empty() && outside.size() < ranks.size()) {
    return name_of(outside) + is(outside) + "outside all collectives while the others wait";
  }
  Parties parties;
  for (const SeenRank& seen : ranks) {
    const RecordedCollective* inside = seen.state.inside();
    parties[inside == nullptr ? "outside all collectives" : "in " + describe(*inside)].push_back(
        &seen.state);
  }
  if (parties.size() > 1) {
    return tell_apart(parties) + ": they wait for each other, one skipped a collective";
  }
  return "all ranks are " + parties.begin()->first;
}

}  // namespace

std::string odd_one_out(const std::vector<SeenRank>& ranks) {
  if (ranks.empty()) return "no rank's record can be read";
  std::string found = stopped_or_gone(ranks);
  if (!found.empty()) return found;
  const std::vector<Group> groups = groups_of(ranks);
  for (const auto& look : {different_calls, different_counts, undelivered}) {
    for (const Group& group : groups) {
      found = look(group);
      if (!found.empty()) return found;
    }
  }
  return by_whereabouts(ranks, groups);
}

}  // namespace switchyard
