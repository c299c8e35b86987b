#include "metrics/routing_summary.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>

#include "metrics/console.h"

namespace switchyard {
namespace {

using nlohmann::ordered_json;
using Number = std::optional<double>;

/// Experts whose loads are written out, one by one.
constexpr size_t kListedExperts = 32;

ordered_json or_null(const Number& value) { return value ? ordered_json(*value) : nullptr; }

ordered_json matrix_json(const MatrixSimilarity& matrix) {
  return {{"experts", or_null(matrix.experts)},
          {"mean_neurons", or_null(matrix.mean_neurons)},
          {"between_experts", or_null(matrix.between_experts)},
          {"within_experts", or_null(matrix.within_experts)}};
}

ordered_json layer_json(const LayerRouting& layer) {
  ordered_json matrices = ordered_json::object();
  for (const MatrixSimilarity& matrix : layer.matrices) {
    matrices[matrix.matrix] = matrix_json(matrix);
  }
  return {{"layer", layer.layer},
          {"load", layer.load_E},
          {"max_vio", layer.max_vio},
          {"entropy", or_null(layer.entropy)},
          {"dropped", layer.dropped},
          {"dead_experts", layer.dead_experts},
          {"router_similarity",
           {{"mean", or_null(layer.router_mean)}, {"max", or_null(layer.router_max)}}},
          {"expert_similarity", or_null(layer.expert_similarity)},
          {"matrix_similarity", std::move(matrices)},
          {"output_norm", layer.output_norm_E},
          {"score_norm_correlation", or_null(layer.score_norm_correlation)},
          {"correlated_tokens", layer.correlated_tokens}};
}

/// Mean over the layers that have the number.
Number mean_of(const std::vector<LayerRouting>& layers,
               const std::function<Number(const LayerRouting&)>& number) {
  double sum = 0;
  int64_t count = 0;
  for (const LayerRouting& layer : layers) {
    const Number value = number(layer);
    sum += value.value_or(0);
    count += value ? 1 : 0;
  }
  return count > 0 ? Number(sum / static_cast<double>(count)) : std::nullopt;
}

int64_t dead_in(const std::vector<LayerRouting>& layers) {
  int64_t dead = 0;
  for (const LayerRouting& layer : layers) dead += static_cast<int64_t>(layer.dead_experts.size());
  return dead;
}

/// A column of the table of layers: its head, its key in `mean`, its format and number.
struct Column {
  const char* head;
  const char* key;
  const char* format;
  std::function<Number(const LayerRouting&)> number;
};

const std::vector<Column>& columns() {
  static const std::vector<Column> all = {
      {"MaxVio", "max_vio", "%.3f", [](const LayerRouting& l) { return Number(l.max_vio); }},
      {"entropy", "entropy", "%.3f", [](const LayerRouting& l) { return l.entropy; }},
      {"dropped", "dropped", "%.4f", [](const LayerRouting& l) { return Number(l.dropped); }},
      {"dead", "", "%.0f",
       [](const LayerRouting& l) { return Number(static_cast<double>(l.dead_experts.size())); }},
      {"router cos", "router_similarity", "%.4f",
       [](const LayerRouting& l) { return l.router_mean; }},
      {"router max", "", "%.4f", [](const LayerRouting& l) { return l.router_max; }},
      {"expert cos", "expert_similarity", "%.4f",
       [](const LayerRouting& l) { return l.expert_similarity; }},
      {"score~norm", "score_norm_correlation", "%.3f",
       [](const LayerRouting& l) { return l.score_norm_correlation; }},
  };
  return all;
}

std::string cell(const std::string& text, int width) {
  const auto missing = static_cast<size_t>(std::max(0, width - static_cast<int>(text.size())));
  return std::string(missing, ' ') + text;
}

std::string number_cell(const char* format, const Number& value, int width) {
  if (!value) return cell("-", width);
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), format, *value);
  return cell(text.data(), width);
}

std::string layer_table(const std::vector<LayerRouting>& layers) {
  constexpr int kWidth = 12;
  std::string text = cell("layer", 5);
  for (const Column& column : columns()) text += cell(column.head, kWidth);
  text += "\n";
  for (const LayerRouting& layer : layers) {
    text += cell(std::to_string(layer.layer), 5);
    for (const Column& column : columns()) {
      text += number_cell(column.format, column.number(layer), kWidth);
    }
    text += "\n";
  }
  text += cell("mean", 5);
  for (const Column& column : columns()) {
    text += number_cell(*column.key == '\0' ? "%.2f" : column.format,
                        mean_of(layers, column.number), kWidth);
  }
  return text + "\n";
}

std::string matrix_table(const std::vector<LayerRouting>& layers) {
  std::string text =
      "layer  matrix        experts  mean neurons  between experts  within experts\n";
  for (const LayerRouting& layer : layers) {
    for (const MatrixSimilarity& matrix : layer.matrices) {
      text += cell(std::to_string(layer.layer), 5) + "  " + matrix.matrix +
              std::string(std::max<size_t>(10, matrix.matrix.size()) - matrix.matrix.size(), ' ') +
              number_cell("%.4f", matrix.experts, 11) +
              number_cell("%.4f", matrix.mean_neurons, 14) +
              number_cell("%.4f", matrix.between_experts, 17) +
              number_cell("%.4f", matrix.within_experts, 16) + "\n";
    }
  }
  return text;
}

std::string load_lines(const LayerRouting& layer) {
  const auto share = [](double load) { return number_cell("%.1f", 100 * load, 6); };
  std::string text = cell(std::to_string(layer.layer), 5);
  if (layer.load_E.size() <= kListedExperts) {
    for (const double load : layer.load_E) text += share(load);
  } else {
    std::vector<double> sorted = layer.load_E;
    std::ranges::sort(sorted);
    text += "  least" + share(sorted.front()) + "  median" + share(sorted[sorted.size() / 2]) +
            "  most" + share(sorted.back());
  }
  text += "\n";
  if (layer.dead_experts.empty()) return text;
  text += "       dead:";
  for (size_t i = 0; i < layer.dead_experts.size() && i < kListedExperts; ++i) {
    text += " " + std::to_string(layer.dead_experts[i]);
  }
  return text + (layer.dead_experts.size() > kListedExperts ? " ...\n" : "\n");
}

}  // namespace

nlohmann::ordered_json routing_json(const RoutingSummary& summary) {
  ordered_json mean = ordered_json::object();
  for (const Column& column : columns()) {
    if (*column.key != '\0') mean[column.key] = or_null(mean_of(summary.layers, column.number));
  }
  ordered_json layers = ordered_json::array();
  for (const LayerRouting& layer : summary.layers) layers.push_back(layer_json(layer));
  return {{"checkpoint", summary.checkpoint},
          {"step", summary.step},
          {"data", summary.data},
          {"split", summary.split},
          {"sequence_length", summary.sequence_length},
          {"sequences", summary.sequences},
          {"tokens", summary.tokens},
          {"sampled_tokens", summary.sampled_tokens},
          {"dead_experts", dead_in(summary.layers)},
          {"mean", std::move(mean)},
          {"layers", std::move(layers)}};
}

std::string routing_text(const RoutingSummary& summary) {
  std::string text = summary.checkpoint + ", step " + std::to_string(summary.step) + "\n" +
                     summary.data + ", " + summary.split + ": " + grouped(summary.tokens) +
                     " tokens in " + grouped(summary.sequences) + " sequences of " +
                     std::to_string(summary.sequence_length) + "; all experts on " +
                     grouped(summary.sampled_tokens) + " of them\n\n";
  text += layer_table(summary.layers) + "\n";
  text += "mean cosines of the experts' weights\n" + matrix_table(summary.layers) + "\n";
  text += "layer  share of the assignments per expert, %\n";
  for (const LayerRouting& layer : summary.layers) text += load_lines(layer);
  return text;
}

}  // namespace switchyard
