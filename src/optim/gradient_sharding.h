#pragma once

#include <ATen/core/Tensor.h>

#include "optim/parameter_store.h"

namespace switchyard {

/// ZeRO stage 2 (Rajbhandari et al., arXiv:1910.02054, P_os+g) for one leaf: as soon as
/// backward has all of its gradient, that is reduce-scattered in float32 over the
/// buffer's group, the elements that this rank owns are added to `buffer.gradients`,
/// and the gradient is freed. So of whole gradients only that of the leaf at hand is
/// alive (and the first half of one that is used twice, as tied embeddings are), and
/// micro-batches add up in the owned part.
///
///   leaf    elements `range` of `buffer`, already with its memory; requires a gradient
///   buffer  must outlive the leaf's last backward and stay where it is, as must `under_way`:
///           as many whole gradients as it may hold are alive besides
///
/// From here on every backward through the leaf is collective over buffer.group, and
/// every rank of the world must run the same backwards: leaves arrive in the order in
/// which autograd finishes them. That order is a function of the order in which
/// forward made its nodes, as is the order of the all-to-alls between them: ready
/// nodes run latest made first, on one thread (the one that called backward or, where the
/// graph is on a GPU, that GPU's), and a leaf's accumulation at once. So a graph that
/// communicates has all of its nodes on one device: two threads would race for the order. Forward
/// is the same program on every rank, with no tokens too. Where parts are frozen, the ranks of a
/// group freeze the same ones, and those of other groups leave out of the one order what they have
/// not.
void shard_gradient_on_arrival(const at::Tensor& leaf, Interval range,
                               ParameterStore::Buffer& buffer, GradientsUnderWay& under_way);

}  // namespace switchyard
