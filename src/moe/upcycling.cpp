#include "moe/upcycling.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "base/random.h"

namespace switchyard {
namespace {

using at::Tensor;

const char* weight_name(Projection projection) {
  switch (projection) {
    case Projection::kGate:
      return ".gate_proj.weight";
    case Projection::kUp:
      return ".up_proj.weight";
    case Projection::kDown:
      break;
  }
  return ".down_proj.weight";
}

/// The dimension that inner units are counted along.
int64_t unit_dim(Projection projection) { return projection == Projection::kDown ? 1 : 0; }

/// The expert's part of a dense projection, as a copy in float32.
Tensor shard_of(const ExpertRecipe& recipe, int64_t e, Projection projection, const Tensor& dense) {
  const int64_t dim = unit_dim(projection), F = dense.size(dim), G = recipe.granularity;
  TORCH_CHECK(dense.dim() == 2 && F % G == 0, "upcycling: ", F, " units in ", G, " shards");
  const Tensor shard = dense.narrow(dim, shard_of_expert(recipe, e) * (F / G), F / G);
  return shard.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true).contiguous();
}

/// Calls change(value, index) for every element, by flat index.
template <typename Change>
void for_each_element(Tensor& values, const Change& change) {
  float* data = values.data_ptr<float>();
  at::parallel_for(0, values.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) change(data[i], static_cast<uint64_t>(i));
  });
}

struct Moments {
  double mean = 0, std = 0;
};

/// Of the elements that `is_in` picks, added up in their order: the same on any number of threads.
template <typename Pick>
Moments moments_where(const Tensor& values, const Pick& is_in) {
  const float* data = values.data_ptr<float>();
  double count = 0, sum = 0, squares = 0;
  const auto visit = [&](const auto& add) {
    for (int64_t i = 0; i < values.numel(); ++i) {
      if (is_in(i)) add(static_cast<double>(data[i]));
    }
  };
  visit([&](double x) { count += 1, sum += x; });
  const double mean = sum / std::max(count, 1.0);
  visit([&](double x) { squares += (x - mean) * (x - mean); });
  return {mean, std::sqrt(squares / std::max(count, 1.0))};
}

/// For each element of a projection, whether its inner unit is one of `units`.
class UnitMask {
 public:
  UnitMask(const Tensor& values, Projection projection, const std::vector<int64_t>& units)
      : columns_(values.size(1)), by_column_(projection == Projection::kDown) {
    is_in_.resize(values.size(unit_dim(projection)));
    for (const int64_t unit : units) is_in_[unit] = 1;
  }
  bool operator()(int64_t i) const { return is_in_[by_column_ ? i % columns_ : i / columns_] != 0; }

 private:
  int64_t columns_;
  bool by_column_;
  std::vector<char> is_in_;
};

void redraw(const ExpertRecipe& recipe, const std::string& expert, Projection projection,
            Tensor& values) {
  const UnitMask is_redrawn(values, projection,
                            redrawn_units(recipe, expert, values.size(unit_dim(projection))));
  const Moments like = moments_where(values, is_redrawn);
  const RandomStream draws(recipe.seed, "upcycle/drop/" + expert + weight_name(projection));
  for_each_element(values, [&](float& value, uint64_t i) {
    if (!is_redrawn(static_cast<int64_t>(i))) return;
    value = static_cast<float>(like.mean + like.std * draws.normal(i));
  });
}

void add_noise(const ExpertRecipe& recipe, const std::string& name, Tensor& values) {
  const RandomStream draws(recipe.seed, "upcycle/noise/" + name);
  for_each_element(values, [&](float& value, uint64_t i) {
    value += static_cast<float>(recipe.noise_std * draws.normal(i));
  });
}

}  // namespace

int64_t shard_of_expert(const ExpertRecipe& recipe, int64_t expert) {
  return expert % recipe.granularity;
}

double projection_scale(const ExpertRecipe& recipe, Projection projection) {
  const auto G = static_cast<double>(recipe.granularity);
  const bool is_down = projection == Projection::kDown;
  const double share = is_down ? recipe.share : 1.0;
  if (recipe.scaling == ExpertScaling::kExact) return is_down ? G * share : 1.0;
  const double routed = static_cast<double>(recipe.num_experts) / static_cast<double>(recipe.top_k);
  const double s = recipe.normalize ? G : routed * G;
  return share * (recipe.gated ? std::cbrt(s) : std::sqrt(s));
}

bool is_plain_copy(const ExpertRecipe& recipe, Projection projection) {
  return recipe.init == ExpertInit::kCopy && recipe.granularity == 1 &&
         projection_scale(recipe, projection) == 1.0;
}

std::vector<int64_t> redrawn_units(const ExpertRecipe& recipe, const std::string& expert,
                                   int64_t units) {
  if (recipe.init != ExpertInit::kDrop) return {};
  // A ratio such as 0.3 is a little less than it reads.
  const auto count =
      static_cast<int64_t>(std::floor(recipe.drop_ratio * static_cast<double>(units) + 1e-9));
  const Permutation order(static_cast<uint64_t>(units), recipe.seed, "upcycle/units/" + expert,
                          /*epoch=*/0);
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < count; ++i) {
    chosen.push_back(static_cast<int64_t>(order(static_cast<uint64_t>(i))));
  }
  std::ranges::sort(chosen);
  return chosen;
}

Tensor expert_projection(const ExpertRecipe& recipe, const std::string& expert, int64_t e,
                         Projection projection, const Tensor& dense) {
  Tensor values = shard_of(recipe, e, projection, dense);
  const double scale = projection_scale(recipe, projection);
  if (scale != 1.0) values.mul_(scale);
  if (recipe.init == ExpertInit::kDrop) redraw(recipe, expert, projection, values);
  if (recipe.init == ExpertInit::kNoise) {
    add_noise(recipe, expert + weight_name(projection), values);
  }
  return values;
}

Tensor expert_moment(const ExpertRecipe& recipe, const std::string& expert, int64_t e,
                     Projection projection, int power, const Tensor& dense) {
  Tensor values = shard_of(recipe, e, projection, dense);
  const double scale = projection_scale(recipe, projection);
  if (scale != 1.0) values.mul_(std::pow(scale, -power));
  const UnitMask is_redrawn(values, projection,
                            redrawn_units(recipe, expert, values.size(unit_dim(projection))));
  for_each_element(values, [&](float& value, uint64_t i) {
    if (is_redrawn(static_cast<int64_t>(i))) value = 0;
  });
  return values;
}

Tensor new_router(const ExpertRecipe& recipe, const std::string& name, int64_t hidden_size,
                  double std) {
  Tensor groups = at::empty({recipe.num_experts / recipe.granularity, hidden_size}, at::kFloat);
  const RandomStream draws(recipe.seed, "upcycle/router/" + name);
  for_each_element(
      groups, [&](float& value, uint64_t i) { value = static_cast<float>(std * draws.normal(i)); });
  return groups.repeat_interleave(recipe.granularity, /*dim=*/0);
}

}  // namespace switchyard
