#include "moe/routers/capped_choice.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

// N tokens, E experts; matrices are (E, N) inside, an expert a row.

namespace switchyard {
namespace {

using at::Tensor;

double log_add(double a, double b) {
  const double high = std::max(a, b), low = std::min(a, b);
  return high == -std::numeric_limits<double>::infinity() ? high
                                                          : high + std::log1p(std::exp(low - high));
}

Tensor rows_of(const Tensor& scores_NE) {
  return scores_NE.detach().to(at::kDouble).t().contiguous();
}

/// The dual of the program: A_et = min(1, exp((S_et + row_e - price_t) / lambda)).
class CapDual {
 public:
  CapDual(const Tensor& scores_EN, int64_t per_expert, int64_t per_token)
      : E_(scores_EN.size(0)),
        N_(scores_EN.size(1)),
        per_expert_(static_cast<double>(per_expert)),
        per_token_(static_cast<double>(per_token)),
        scores_(scores_EN.data_ptr<double>()),
        row_(E_, 0.0),
        price_(N_, 0.0) {}

  /// Rows sum to per_expert, with entries of at most 1.
  void fill_rows(double lambda) {
    std::vector<double> sorted(N_), tail(N_);
    for (int64_t e = 0; e < E_; ++e) {
      for (int64_t t = 0; t < N_; ++t) sorted[t] = (scores_[e * N_ + t] - price_[t]) / lambda;
      std::sort(sorted.begin(), sorted.end(), std::greater<>());
      tail = sorted;
      for (int64_t t = N_ - 2; t >= 0; --t) tail[t] = log_add(sorted[t], tail[t + 1]);
      double row = 0;  // `full` entries are 1, the others share the rest
      for (int64_t full = 0; full < N_; ++full) {
        row = std::log(per_expert_ - static_cast<double>(full)) - tail[full];
        if (row + sorted[full] <= 0 || static_cast<double>(full + 1) >= per_expert_) break;
      }
      row_[e] = lambda * row;
    }
  }

  /// Columns sum to per_token at most.
  void limit_columns(double lambda) {
    for (int64_t t = 0; t < N_; ++t) {
      // An entry that its bound holds at 1 stays as the bound's multiplier leaves it.
      double sum = -std::numeric_limits<double>::infinity();
      for (int64_t e = 0; e < E_; ++e) {
        const double free = scores_[e * N_ + t] + row_[e];
        sum = log_add(sum, (free - std::max(0.0, free - price_[t])) / lambda);
      }
      price_[t] = std::max(0.0, lambda * (sum - std::log(per_token_)));
    }
  }

  Tensor plan(double lambda) const {
    Tensor plan_NE = at::empty({N_, E_}, at::kDouble);
    double* plan = plan_NE.data_ptr<double>();
    for (int64_t e = 0; e < E_; ++e) {
      for (int64_t t = 0; t < N_; ++t) {
        plan[t * E_ + e] =
            std::exp(std::min(0.0, (scores_[e * N_ + t] + row_[e] - price_[t]) / lambda));
      }
    }
    return plan_NE;
  }

 private:
  int64_t E_, N_;
  double per_expert_, per_token_;
  const double* scores_;
  std::vector<double> row_, price_;
};

/// Pairs as they are taken.
class Rounding {
 public:
  Rounding(const Tensor& plan_EN, int64_t capacity, int64_t per_token)
      : E_(plan_EN.size(0)),
        N_(plan_EN.size(1)),
        capacity_(capacity),
        per_token_(per_token),
        plan_(plan_EN.data_ptr<double>()),
        taken_(E_ * N_, 0),
        of_expert_(E_, 0),
        of_token_(N_, 0) {}

  void take_largest() {
    std::vector<int64_t> order(E_ * N_);
    std::iota(order.begin(), order.end(), int64_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return plan_[a] > plan_[b]; });
    for (const int64_t pair : order) {
      if (of_expert_[pair / N_] < capacity_ && of_token_[pair % N_] < per_token_) set(pair, 1);
    }
  }

  /// After take_largest a short expert holds every token that still has room. Each
  /// exchange fills one place, and one exists while a token has room.
  void fill_up() {
    for (int64_t e = 0; e < E_; ++e) {
      while (of_expert_[e] < capacity_ && exchange(e)) {
      }
    }
  }

  Tensor chosen_NE() const {
    Tensor chosen_EN = at::empty({E_, N_}, at::kBool);
    std::copy(taken_.begin(), taken_.end(), chosen_EN.data_ptr<bool>());
    return chosen_EN.t().contiguous();
  }

 private:
  void set(int64_t pair, int change) {
    taken_[pair] = change > 0;
    of_expert_[pair / N_] += change;
    of_token_[pair % N_] += change;
  }

  /// Expert e takes a token from a giver, which takes one with room in its place.
  bool exchange(int64_t e) {
    double best = -std::numeric_limits<double>::infinity();
    int64_t wanted = -1, given = -1, in_place = -1;
    for (int64_t giver = 0; giver < E_; ++giver) {
      if (giver == e) continue;
      int64_t lost = -1, gained = -1;
      for (int64_t t = 0; t < N_; ++t) {
        const bool gives = taken_[giver * N_ + t] != 0;
        if (gives && taken_[e * N_ + t] == 0 && (lost < 0 || change(e, giver, t, lost) > 0)) {
          lost = t;
        }
        if (!gives && of_token_[t] < per_token_ &&
            (gained < 0 || plan_[giver * N_ + t] > plan_[giver * N_ + gained])) {
          gained = t;
        }
      }
      if (lost < 0 || gained < 0) continue;
      const double value =
          plan_[e * N_ + lost] - plan_[giver * N_ + lost] + plan_[giver * N_ + gained];
      if (value > best) {
        best = value;
        wanted = e * N_ + lost;
        given = giver * N_ + lost;
        in_place = giver * N_ + gained;
      }
    }
    if (wanted < 0) return false;
    set(given, -1);
    set(in_place, 1);
    set(wanted, 1);
    return true;
  }

  /// How much more giving token `t` to e is worth than giving it `other`.
  double change(int64_t e, int64_t giver, int64_t t, int64_t other) const {
    return (plan_[e * N_ + t] - plan_[giver * N_ + t]) -
           (plan_[e * N_ + other] - plan_[giver * N_ + other]);
  }

  int64_t E_, N_, capacity_, per_token_;
  const double* plan_;
  std::vector<char> taken_;
  std::vector<int64_t> of_expert_, of_token_;
};

}  // namespace

Tensor best_tokens(const Tensor& scores_NE, int64_t capacity) {
  const Tensor order_NE =
      at::argsort(scores_NE.detach(), /*stable=*/true, /*dim=*/0, /*descending=*/true);
  return at::zeros(scores_NE.sizes(), at::kBool)
      .scatter_(/*dim=*/0, order_NE.narrow(0, 0, capacity), true);
}

Tensor capped_plan(const Tensor& scores_NE, int64_t per_expert, int64_t per_token,
                   const CapOptions& options) {
  const Tensor scores_EN = rows_of(scores_NE);
  const int64_t N = scores_NE.size(0), E = scores_NE.size(1);
  TORCH_CHECK(
      per_expert >= 1 && per_expert < N && per_token >= 1 && per_expert * E <= per_token * N,
      "capped_plan: ", per_expert, " tokens for each of ", E, " experts, ", per_token,
      " experts for each of ", N, " tokens");
  CapDual dual(scores_EN, per_expert, per_token);
  const double falling = 0.7 * static_cast<double>(options.iterations);
  for (int64_t i = 0; i < options.iterations; ++i) {
    const double share = std::max(0.0, 1.0 - static_cast<double>(i) / falling);
    const double lambda = options.lambda * std::pow(1.0 / options.lambda, share);
    dual.fill_rows(lambda);
    dual.limit_columns(lambda);
  }
  dual.fill_rows(options.lambda);
  return dual.plan(options.lambda);
}

Tensor capped_choice(const Tensor& scores_NE, int64_t capacity, int64_t per_token,
                     const CapOptions& options) {
  const Tensor finite_NE = scores_NE.detach().nan_to_num(0.0, 0.0, 0.0);
  const int64_t N = scores_NE.size(0), E = scores_NE.size(1);
  if (per_token >= E) return best_tokens(finite_NE, capacity);
  const bool experts_fill = capacity * E <= per_token * N;
  const Tensor plan_EN = (experts_fill ? capped_plan(finite_NE, capacity, per_token, options).t()
                                       : capped_plan(finite_NE.t(), per_token, capacity, options))
                             .contiguous();
  Rounding rounding(plan_EN, capacity, per_token);
  rounding.take_largest();
  rounding.fill_up();
  return rounding.chosen_NE();
}

}  // namespace switchyard
