#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace switchyard {

/// How much the experts of a layer have in common in one of their matrices (up_proj,
/// gate_proj, down_proj): mean cosines. Nothing where there is no pair to compare.
struct MatrixSimilarity {
  std::string matrix;
  std::optional<double> experts;          // of two experts: the whole matrix, flattened
  std::optional<double> mean_neurons;     // of two experts: the mean over their neurons
  std::optional<double> between_experts;  // of the same neuron in two experts
  std::optional<double> within_experts;   // of two neurons of one expert
};

/// How one MoE layer routed a split, and what its router and experts are like. The same
/// on any layout, up to rounding.
struct LayerRouting {
  int64_t layer = 0;                  // the decoder layer, counted from 0
  std::vector<double> load_E;         // each expert's share of the assignments, before drops
  double max_vio = 0;                 // max / mean assignments of an expert, less 1
  std::optional<double> entropy;      // of the router's probabilities, mean over tokens, nats
  double dropped = 0;                 // share of the assignments that capacity dropped
  std::vector<int64_t> dead_experts;  // those without an assignment

  std::optional<double> router_mean, router_max;  // cosines of two rows of gate.weight
  std::optional<double> expert_similarity;        // mean cosine of two experts, all matrices
  std::vector<MatrixSimilarity> matrices;

  std::vector<double> output_norm_E;             // ||E_i(x)||, mean over the sampled tokens
  std::optional<double> score_norm_correlation;  // Spearman's, of score and ||E_i(x)|| over i
  int64_t correlated_tokens = 0;                 // sampled tokens of which there is one
};

/// The routing of a model on a split: `switchyard inspect --routing`.
struct RoutingSummary {
  std::string checkpoint, data, split;
  int64_t step = 0;
  int64_t sequence_length = 0, sequences = 0;
  int64_t tokens = 0;          // that were routed, over all ranks
  int64_t sampled_tokens = 0;  // of those, the ones that all experts were evaluated on
  std::vector<LayerRouting> layers;
};

/// One JSON object; null for what there is not.
nlohmann::ordered_json routing_json(const RoutingSummary& summary);

/// Tables for a terminal, each line with its newline: the layers and their mean, the
/// neurons, and the load of each expert.
std::string routing_text(const RoutingSummary& summary);

}  // namespace switchyard
