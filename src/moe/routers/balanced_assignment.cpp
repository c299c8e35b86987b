#include "moe/routers/balanced_assignment.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <limits>
#include <queue>
#include <utility>
#include <vector>

// T tokens, E experts, r = T mod E. Where r > 0, each expert has floor(T / E) places
// for tokens and one more that a token or one of E - r fillers takes.

namespace switchyard {
namespace {

using at::Tensor;

constexpr double kFirstEpsilon = 0.2;  // of scores in [0, 1]
constexpr double kEpsilonFall = 5;
constexpr double kLeastEpsilon = 1e-9;

/// A bid and who made it; among equal bids the later bidder loses its place first.
using Holder = std::pair<double, int64_t>;  // (bid, -bidder)

/// Places that share a price.
struct PlaceClass {
  int64_t expert;
  size_t places;
  bool for_fillers;
  double price = 0;
  std::priority_queue<Holder, std::vector<Holder>, std::greater<>> holders = {};
};

class Auction {
 public:
  /// scores (T, E) in [0, 1].
  Auction(const double* scores, int64_t T, int64_t E)
      : scores_(scores), T_(T), E_(E), bidders_(T % E == 0 ? T : T + E - T % E) {
    for (int64_t e = 0; e < E; ++e) {
      if (T / E > 0) classes_.push_back({e, static_cast<size_t>(T / E), false});
      if (T % E > 0) classes_.push_back({e, 1, true});
    }
  }

  int64_t bidders() const { return bidders_; }

  /// One round: prices go on from where the last one left them.
  void run(double epsilon) {
    std::deque<int64_t> waiting(bidders_);
    for (int64_t i = 0; i < bidders_; ++i) waiting[i] = i;
    for (PlaceClass& held : classes_) held.holders = {};
    while (!waiting.empty()) {
      const int64_t i = waiting.front();
      waiting.pop_front();
      const int64_t loser = bid(i, epsilon);
      if (loser >= 0) waiting.push_back(loser);
    }
  }

  void experts(int64_t* expert_of) {
    for (PlaceClass& held : classes_) {
      for (; !held.holders.empty(); held.holders.pop()) {
        const int64_t i = -held.holders.top().second;
        if (i < T_) expert_of[i] = held.expert;
      }
    }
  }

 private:
  double score(int64_t i, const PlaceClass& of) const {
    if (i < T_) return scores_[i * E_ + of.expert];
    return of.for_fillers ? 0.0 : -std::numeric_limits<double>::infinity();
  }

  /// Bidder i takes a place; returns who lost one, or -1.
  int64_t bid(int64_t i, double epsilon) {
    PlaceClass* best = nullptr;
    double first = -std::numeric_limits<double>::infinity(), second = first;
    for (PlaceClass& candidate : classes_) {
      const double value = score(i, candidate) - candidate.price;
      if (best == nullptr || value > first) {
        second = first;
        first = value;
        best = &candidate;
      } else {
        second = std::max(second, value);
      }
    }
    best->holders.emplace(best->price + (first - second) + epsilon, -i);
    int64_t loser = -1;
    if (best->holders.size() > best->places) {
      loser = -best->holders.top().second;
      best->holders.pop();
    }
    if (best->holders.size() == best->places) best->price = best->holders.top().first;
    return loser;
  }

  const double* scores_;
  int64_t T_, E_, bidders_;
  std::vector<PlaceClass> classes_;
};

}  // namespace

Tensor finite_scores(const Tensor& scores_TE) {
  const Tensor finite_TE = scores_TE.isfinite();
  if (finite_TE.all().item<bool>()) return scores_TE;
  if (!finite_TE.any().item<bool>()) return at::zeros_like(scores_TE);
  return at::where(finite_TE, scores_TE, scores_TE.masked_select(finite_TE).min());
}

Tensor balanced_assignment(const Tensor& scores_TE, double epsilon) {
  TORCH_CHECK(scores_TE.dim() == 2 && at::isFloatingType(scores_TE.scalar_type()) &&
                  scores_TE.size(1) > 0 && epsilon > 0,
              "balanced_assignment: scores_TE ", scores_TE.sizes(), " ", scores_TE.dtype(),
              ", epsilon ", epsilon);
  const int64_t T = scores_TE.size(0), E = scores_TE.size(1);
  Tensor expert_T = at::zeros({T}, at::kLong);
  if (T == 0 || E == 1) return expert_T;
  const Tensor finite_TE = finite_scores(scores_TE.detach().to(at::kDouble));
  const double least = finite_TE.min().item<double>();
  const double spread = finite_TE.max().item<double>() - least;
  if (spread == 0) return at::arange(T, at::kLong).remainder(E);
  const Tensor unit_TE = ((finite_TE - least) / spread).contiguous();

  Auction auction(unit_TE.data_ptr<double>(), T, E);
  const double last = std::max(
      epsilon * static_cast<double>(T) / static_cast<double>(auction.bidders()), kLeastEpsilon);
  for (double e = kFirstEpsilon; e > last; e /= kEpsilonFall) auction.run(e);
  auction.run(last);
  auction.experts(expert_T.data_ptr<int64_t>());
  return expert_T;
}

}  // namespace switchyard
