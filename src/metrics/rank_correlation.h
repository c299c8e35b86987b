#pragma once

#include <optional>
#include <span>
#include <vector>

namespace switchyard {

/// Ranks from 1, smallest first; equal values share the mean of their ranks.
std::vector<double> average_ranks(std::span<const double> values);

/// Spearman's rank correlation: Pearson's correlation of the average ranks, from -1
/// to 1. Nothing when it is not defined: fewer than two values, or all of x or all of
/// y equal. x and y have the same length and no NaN.
std::optional<double> spearman(std::span<const double> x, std::span<const double> y);

}  // namespace switchyard
