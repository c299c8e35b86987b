#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace switchyard {

/// What backward computes again instead of finding it kept, see docs/recompute.md.
enum class Recompute { kNone, kExperts, kLayer };

/// From `train.recompute`.
Recompute parse_recompute(const std::string& word);

/// A piece of forward: outputs from inputs, some of which may be undefined.
using Piece = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>& inputs)>;

/// The outputs of `piece`, of which its inputs alone stay until backward. That calls `piece` a
/// second time, with a graph, goes backward through it, and lets go of all of it again: gradients
/// are those of a plain call to the bit, one piece's activations are alive at a time. Without a
/// graph to make (evaluation, generation, a piece in which all is frozen) this is `piece(inputs)`.
///
/// `piece` must give the same again: a function of its inputs, of leaves and of values that it
/// holds. Leaves that it reads get their gradient in each piece, so they belong to one. It may
/// communicate: then every rank of the group must make the same calls, and run the same
/// backward, which communicates as a plain one and as `piece` does. The graph is good for one
/// backward, and `piece` for as long as the graph.
std::vector<at::Tensor> recomputed(const Piece& piece, const std::vector<at::Tensor>& inputs);

}  // namespace switchyard
