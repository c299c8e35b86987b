#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

// The weight surgery of sparse upcycling: what an expert and a router are made of when
// a dense feed-forward network becomes a mixture of experts. Pure functions, local. Draws
// are counter-based and keyed by (seed, purpose, global tensor name), so whoever makes a
// tensor makes the same bytes.
//
// F dense inner width, G granularity, f = F / G inner width of an expert, D model width,
// E experts, K experts per token.

/// What happens to an expert's copy of the dense weights.
///
///   kCopy   nothing: Komatsuzaki et al., arXiv:2212.05055
///   kNoise  every weight gets noise_std * N(0, 1) added
///   kDrop   Drop-Upcycling (Nakamura et al., arXiv:2502.19261): a random share of the
///           inner units is drawn anew, others in each expert
enum class ExpertInit { kCopy, kNoise, kDrop };

/// How an expert of width f = F / G is scaled to stand for its share of the dense network.
///
///   kExact      the down-projection alone, by G: the function stays, whatever the
///               activation, since the output is linear in it
///   kPublished  He et al., arXiv:2410.07524: s^(1/3) on gate, up and down, or without a
///               gate s^(1/2) on up and down, where
///                 s = G            weights that sum to 1 (softmax after top-k)
///                 s = E G / K      weights that are probabilities (softmax before top-k)
///               SiLU and GELU are not homogeneous, so this is near the dense function at
///               best
enum class ExpertScaling { kExact, kPublished };

enum class Projection { kGate, kUp, kDown };

/// Everything that an upcycled layer depends on besides the dense weights.
struct ExpertRecipe {
  ExpertInit init = ExpertInit::kCopy;
  ExpertScaling scaling = ExpertScaling::kExact;
  int64_t num_experts = 8, top_k = 2, granularity = 1;
  bool gated = true;        // the feed-forward has a gate: three matrices, not two
  bool normalize = true;    // a token's weights sum to 1
  double share = 1.0;       // of the dense output that the routed experts give together
  double drop_ratio = 0.5;  // kDrop
  double noise_std = 0.0;   // kNoise
  uint64_t seed = 0;
};

/// The shard of the dense inner units that expert e holds, e % G: units
/// [shard * f, (shard + 1) * f). Experts g G to g G + G - 1 together are virtual group g.
int64_t shard_of_expert(const ExpertRecipe& recipe, int64_t expert);

/// What the weights of a projection are multiplied with: the scaling, and `share` on
/// the down-projection.
double projection_scale(const ExpertRecipe& recipe, Projection projection);

/// Whether an expert is the dense network byte for byte.
bool is_plain_copy(const ExpertRecipe& recipe, Projection projection);

/// The inner units in [0, f) that kDrop draws anew in the expert named `expert`
/// ("model.layers.3.mlp.experts.17"), floor(drop_ratio * f) of them, ascending; the same
/// in its three projections. None with another init.
std::vector<int64_t> redrawn_units(const ExpertRecipe& recipe, const std::string& expert,
                                   int64_t units);

/// Expert e's projection: its shard of `dense` (F, D; for kDown D, F), scaled, and changed
/// as `init` says. kDrop draws the redrawn units' weights from a normal distribution of
/// the mean and standard deviation (population) that the weights in their place have
/// (arXiv:2502.19261 section 3).
///
///   expert  its global name, "model.layers.3.mlp.experts.17"
///
/// Returns float32 (f, D), or (D, f) for kDown.
at::Tensor expert_projection(const ExpertRecipe& recipe, const std::string& expert, int64_t e,
                             Projection projection, const at::Tensor& dense);

/// AdamW's first (`power` 1) or second (2) moment for the same weights: the dense
/// one's shard, divided by scale^power as the chain rule has it for weights that were
/// multiplied by it, and zero for redrawn units. Every expert gets all of it, though
/// only its tokens' share of the gradient will follow: AdamW's ratio of the two moments does
/// not see a common factor. Float32.
at::Tensor expert_moment(const ExpertRecipe& recipe, const std::string& expert, int64_t e,
                         Projection projection, int power, const at::Tensor& dense);

/// A new router (E, D) float32: E / G rows of N(0, std^2), each G times in a row. The
/// shards of a virtual group so have equal logits, and a top-k of a multiple of G chooses
/// whole groups (arXiv:2410.07524 section 3.2).
///
///   name  of the tensor, "model.layers.3.mlp.gate.weight"
at::Tensor new_router(const ExpertRecipe& recipe, const std::string& name, int64_t hidden_size,
                      double std);

}  // namespace switchyard
