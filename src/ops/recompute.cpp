#include "ops/recompute.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <algorithm>
#include <memory>
#include <type_traits>
#include <utility>

namespace switchyard {
namespace {

using at::Tensor;
using torch::autograd::variable_list;

variable_list detached(const variable_list& inputs) {
  variable_list leaves;
  for (const Tensor& x : inputs) {
    leaves.push_back(x.defined() ? x.detach().set_requires_grad(x.requires_grad()) : x);
  }
  return leaves;
}

bool in_a_graph(const Tensor& x) { return x.defined() && x.requires_grad(); }

/// Stands in the graph for all of a piece.
class SecondRun final : public torch::autograd::Node {
 public:
  SecondRun(const Piece& piece, const variable_list& inputs)
      : Node(torch::autograd::collect_next_edges(inputs)), piece_(piece) {
    for (const Tensor& x : inputs) inputs_.emplace_back(x, /*is_output=*/false);
  }

  variable_list apply(variable_list&& grads) override {
    TORCH_CHECK(piece_, "recomputed: a second backward through the same graph");
    variable_list inputs;
    for (const auto& saved : inputs_) inputs.push_back(saved.unpack());
    inputs = detached(inputs);
    run_backward(inputs, std::move(grads));
    variable_list input_grads;
    for (const Tensor& x : inputs) input_grads.push_back(x.defined() ? x.grad() : Tensor());
    return input_grads;
  }

  void release_variables() override {
    inputs_.clear();
    piece_ = nullptr;
  }

 private:
  /// Leaves the gradients with the inputs, and with the leaves that the piece reads.
  void run_backward(const variable_list& inputs, variable_list grads) const {
    const at::AutoGradMode with_graph(true);
    const variable_list outputs = piece_(inputs);
    variable_list roots, root_grads;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!grads[i].defined() || !in_a_graph(outputs[i])) continue;
      roots.push_back(outputs[i]);
      root_grads.push_back(std::move(grads[i]));
    }
    if (!roots.empty()) torch::autograd::backward(roots, root_grads);
  }

  Piece piece_;
  std::vector<torch::autograd::SavedVariable> inputs_;
};

/// How a graph holds its nodes: LibTorch from 2.13 on counts a node's owners in the node, before
/// that std::shared_ptr did.
using NodePtr = std::remove_cvref_t<decltype(std::declval<const Tensor&>().grad_fn())>;

template <class Ptr = NodePtr>
Ptr second_run(const Piece& piece, const variable_list& inputs) {
  if constexpr (std::is_same_v<Ptr, std::shared_ptr<torch::autograd::Node>>) {
    return std::make_shared<SecondRun>(piece, inputs);
  } else {
    return c10::make_intrusive<SecondRun>(piece, inputs);
  }
}

}  // namespace

Recompute parse_recompute(const std::string& word) {
  if (word == "none") return Recompute::kNone;
  if (word == "experts") return Recompute::kExperts;
  TORCH_CHECK(word == "layer", "train.recompute: ", word);
  return Recompute::kLayer;
}

std::vector<Tensor> recomputed(const Piece& piece, const std::vector<Tensor>& inputs) {
  if (!c10::GradMode::is_enabled()) return piece(inputs);
  // With a graph of its own, which goes at once: it says whether there is anything to learn.
  variable_list outputs = piece(detached(inputs));
  if (std::ranges::none_of(outputs, in_a_graph)) return outputs;
  const NodePtr node = second_run(piece, inputs);
  for (Tensor& output : outputs) {
    output = output.detach();
    torch::autograd::set_history(output, node);
  }
  return outputs;
}

}  // namespace switchyard
