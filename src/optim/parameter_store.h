#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "distributed/mesh.h"
#include "distributed/placement.h"
#include "optim/gradients_under_way.h"

namespace switchyard {

/// How a parameter starts: a function of (seed, global name, element), so a
/// sharded initialisation equals the unsharded one. kUniform draws from [-std, std);
/// kOrthogonal makes the rows of a matrix (or, of a tall one, its columns) orthogonal,
/// each of norm std.
struct Init {
  enum class Type { kNormal, kTruncatedNormal, kUniform, kOrthogonal, kOnes, kZeros };
  Type type = Type::kNormal;
  double std = 0.02;
  std::string like = {};  // draws as the parameter of this name does; empty: its own
};

/// One globally named tensor. Several may lie in one leaf: the q, k, v rows of a
/// fused projection, the experts of a stack.
struct NamedPart {
  std::string name;            // "model.layers.3.mlp.experts.17.gate_proj.weight"
  std::vector<int64_t> shape;  // global shape of the named tensor
  Init init;
};

/// What a parameter's elements get besides the schedule's learning rate.
struct UpdateRule {
  double lr_scale = 1.0;
  bool decay = true;    // weight decay: tensors of two and more dimensions
  bool frozen = false;  // neither gradient nor update
};

/// One named part as the store holds it.
struct PlacedPart {
  NamedPart part;
  ParameterKind kind;
  UpdateRule rule;
  Interval range;  // its elements in the flat buffers of its kind
};

/// What parameters are held for. kInference: weights alone, zero until they are loaded; no
/// gradients, no optimizer state, nothing that backward would reach.
enum class Purpose { kTraining, kInference };

/// Bytes that a rank holds for its parameters, padding included.
struct ParameterBytes {
  int64_t weights = 0, gradients = 0, optimizer = 0;
};

/// What shares a model out: the size of the world, that of an expert group, and what
/// ZeRO partitions.
struct Partition {
  int64_t world = 1, expert = 1;
  int zero_stage = 1;
};

/// ParameterBytes of a rank before anything is allocated, padding left out. With n =
/// dense + expert / EP, the parameters that a rank computes with, and s = (dense +
/// expert) / W, those that it owns:
///
///   weights    w n        w = 4 in float32, 2 in bfloat16
///   gradients  4 n        at stage 2: 4 s
///   optimizer  k s        at stage 0: k n; k = 8 in float32, 12 in bfloat16
ParameterBytes planned_bytes(int64_t dense, int64_t expert, at::ScalarType dtype,
                             const Partition& partition);

/// The registry of parameters: the only source for reduction, clipping, update
/// and checkpoint. All weights of one kind lie in one flat buffer, gradients
/// (float32) in another of the same order, so a partition is an interval:
///
///   dense    replicated on the world, reduced and partitioned over W
///   expert   this rank's E/EP experts, reduced and partitioned over EDP
///
/// A buffer is padded to a multiple of its group's size; padding is zero and in
/// no part. A rank owns the interval [r * n/G, (r+1) * n/G) of each buffer.
///
/// ZeRO stage 0 keeps optimizer state for whole buffers, stage 1 for the owned
/// interval (Rajbhandari et al., arXiv:1910.02054, P_os), stage 2 of the gradients too
/// no more than that (P_os+g, gradient_sharding.h).
class ParameterStore {
 public:
  struct Options {
    at::ScalarType dtype = at::kFloat;  // of the weights: float32 or bfloat16
    c10::Device device = at::kCPU;      // of all buffers; at::kMeta: they have no memory
    int zero_stage = 1;
    uint64_t seed = 0;
    Purpose purpose = Purpose::kTraining;
    bool overlap_reduction = false;  // stage 2: a gradient may be under way beside the next
    bool overlap_gather = false;     // weights arrive bucket by bucket, see gather_weights
    std::function<UpdateRule(const NamedPart&)> rule;  // none: the defaults, decay by dimension
  };

  /// One kind's buffers. `shard` is the part that this rank reduces, updates and
  /// saves; `state` the part that its optimizer state covers (the shard, or all
  /// of the buffer at stage 0); `gradient` the part that `gradients` covers (all of
  /// the buffer, or the shard at stage 2). master is float32 weights over `state`,
  /// undefined when the weights themselves are float32.
  struct Buffer {
    ParameterKind kind = ParameterKind::kDense;
    Communicator* group = nullptr;
    at::Tensor weights, gradients;
    at::Tensor master, exp_avg, exp_avg_sq;
    Interval shard, state, gradient;

    /// Whether gradients are reduced as backward has them: stage 2, several ranks.
    bool shards_gradients() const { return gradient.size() < weights.numel(); }
    /// Whether each rank updates its shard alone: stages 1 and 2, several ranks.
    bool is_partitioned() const { return state.size() < weights.numel(); }
    /// How many elements of `range` each rank's shard has.
    std::vector<int64_t> owned(Interval range) const;
  };

  /// Declares a leaf of the given local shape whose elements are the parts' in
  /// order (their sizes must add up). The tensor returned has no memory until
  /// `allocate`; the model keeps it and reads its weights through it.
  at::Tensor add(ParameterKind kind, std::vector<int64_t> shape, std::vector<NamedPart> parts);

  /// A leaf that is one named tensor.
  at::Tensor add(ParameterKind kind, const NamedPart& part) {
    return add(kind, part.shape, {part});
  }

  /// The leaves that are declared from here on, a decoder layer's say, are a bucket: their
  /// gradients leave together, and so their weights arrive. Returns its number. Those before the
  /// first call are bucket 0.
  int64_t begin_bucket();
  int64_t num_buckets() const { return static_cast<int64_t>(bucket_leaves_.size()); }
  /// The elements of a bucket in the buffers of a kind.
  Interval bucket(int64_t number, ParameterKind kind) const;

  /// The same for a tensor that several layers share: declared by the first of them.
  at::Tensor add_shared(ParameterKind kind, const NamedPart& part);

  /// Allocates the buffers, points every leaf and its gradient into them, draws
  /// the initial weights on the host, the same for any device (both as far as the purpose needs
  /// them), and checks that the shards of the group tile each buffer. Where gradients are sharded a
  /// leaf has none of its own, and backward is collective (gradient_sharding.h). Call once, after
  /// the last `add`. `mesh` must outlive the store. Collective over the mesh. Throws c10::Error on
  /// all ranks of a group whose models differ in size.
  void allocate(const Mesh& mesh, const Options& options);

  void zero_gradients();

  /// Gathers the other ranks' shards of the weights: collective over the group of each
  /// kind. At stage 0 every rank has all of them, nothing is sent. With overlap_gather this only
  /// begins, and until finish_gather a leaf is read after `need_weights` of its bucket; whoever
  /// asks the store for weights or buffers before gets a c10::Error.
  void gather_weights();

  /// Waits for the weights of buckets up to `number`, in the order of the current stream, and
  /// begins to gather the next bucket's: buckets are needed in order. Collective while weights are
  /// under way, else local.
  void need_weights(int64_t number);
  void finish_gather() { need_weights(num_buckets() - 1); }

  /// With overlap_reduction, at stage 2: gradients that backward has made are added where they are
  /// owned. Part of reduce_gradients.
  void wait_for_gradients() { gradients_under_way_->finish(); }

  /// Takes the weights as they are now for the master copy: after the weights
  /// were set from outside. Local.
  void refresh_master();

  const std::vector<PlacedPart>& parts() const { return parts_; }
  /// The tensors that `add` returned, in its order.
  std::vector<at::Tensor> leaves() const;
  std::vector<Buffer>& buffers() {
    check_gathered();
    return buffers_;
  }
  const std::vector<Buffer>& buffers() const {
    check_gathered();
    return buffers_;
  }
  Buffer& buffer(ParameterKind kind) { return buffers()[kind == ParameterKind::kDense ? 0 : 1]; }
  const Buffer& buffer(ParameterKind kind) const {
    return buffers()[kind == ParameterKind::kDense ? 0 : 1];
  }

  /// The elements of one part, as a view shaped like the named tensor. Gradients only
  /// where the buffer holds them whole.
  at::Tensor weight_of(const PlacedPart& part) const;
  at::Tensor gradient_of(const PlacedPart& part) const;

  ParameterBytes bytes() const;

  /// Elements of all parts of this rank, padding excluded.
  int64_t local_elements(ParameterKind kind) const;

 private:
  struct Leaf {
    ParameterKind kind;
    at::Tensor tensor;
    std::vector<int64_t> shape;
    size_t first_part, num_parts;
  };

  void place_parts(const Options& options, int64_t (&sizes)[2]);
  Buffer make_buffer(ParameterKind kind, int64_t elements, Communicator& group,
                     const Options& options) const;
  static void check_tiling(const Buffer& buffer);
  void bind_leaves();
  Interval range_of(const Leaf& leaf) const;
  void initialise(uint64_t seed);
  void begin_to_gather(int64_t bucket_number);
  void check_gathered() const;

  std::vector<Leaf> leaves_;
  std::vector<PlacedPart> parts_;
  std::vector<Buffer> buffers_;
  std::vector<size_t> bucket_leaves_ = {0};  // the first of each bucket
  bool overlaps_gather_ = false;
  int64_t gather_begun_ = 0, gathered_ = 0;                      // buckets of the last gather
  std::deque<std::vector<std::unique_ptr<UnderWay>>> arriving_;  // of each that is on its way
  std::unique_ptr<GradientsUnderWay> gradients_under_way_;
};

}  // namespace switchyard
