#include "optim/parameter_store.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "base/random.h"
#include "optim/gradient_sharding.h"

namespace switchyard {
namespace {

constexpr const char* kGather = "weights after the update";

int64_t elements_of(const std::vector<int64_t>& shape) { return c10::multiply_integers(shape); }

/// Turns a normal matrix into an orthogonal one by its QR decomposition, with the
/// signs that make the result unique.
void make_orthogonal(at::Tensor& flat, const NamedPart& part) {
  TORCH_CHECK(part.shape.size() == 2, part.name, ": an orthogonal start is for matrices");
  const bool wide = part.shape[0] < part.shape[1];
  const at::Tensor normal = flat.view(part.shape).to(at::kDouble);
  const auto [q, r] = at::linalg_qr(wide ? normal.t() : normal);
  const at::Tensor columns = q * r.diagonal().sign() * part.init.std;
  flat.copy_((wide ? columns.t() : columns).reshape({-1}));
}

/// Draws float32 values of a named tensor: element i is a function of (seed, name, i).
void fill(at::Tensor& flat, const NamedPart& part, uint64_t seed) {
  const RandomStream stream(seed, "init/" + (part.init.like.empty() ? part.name : part.init.like));
  const auto std = static_cast<float>(part.init.std);
  float* x = flat.data_ptr<float>();
  const auto draw = [&](const auto& value) {
    at::parallel_for(0, flat.numel(), 4096, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) x[i] = value(i);
    });
  };
  switch (part.init.type) {
    case Init::Type::kOnes:
      flat.fill_(1);
      break;
    case Init::Type::kZeros:
      flat.zero_();
      break;
    case Init::Type::kNormal:
      draw([&](int64_t i) { return std * stream.normal(i); });
      break;
    case Init::Type::kTruncatedNormal:
      draw([&](int64_t i) { return std * stream.truncated_normal(i, 2.0F); });
      break;
    case Init::Type::kUniform:
      draw([&](int64_t i) { return std * (2 * stream.uniform(i) - 1); });
      break;
    case Init::Type::kOrthogonal:
      draw([&](int64_t i) { return stream.normal(i); });
      make_orthogonal(flat, part);
      break;
  }
}

}  // namespace

ParameterBytes planned_bytes(int64_t dense, int64_t expert, at::ScalarType dtype,
                             const Partition& partition) {
  const bool fp32 = dtype == at::kFloat;
  const int64_t w = fp32 ? 4 : 2, k = fp32 ? 8 : 12;
  const int64_t held = dense + expert / partition.expert;
  const int64_t owned = (dense + expert + partition.world - 1) / partition.world;
  return {w * held, 4 * (partition.zero_stage >= 2 ? owned : held),
          k * (partition.zero_stage >= 1 ? owned : held)};
}

at::Tensor ParameterStore::add(ParameterKind kind, std::vector<int64_t> shape,
                               std::vector<NamedPart> parts) {
  TORCH_CHECK(buffers_.empty(), "ParameterStore: add after allocate");
  int64_t total = 0;
  for (const NamedPart& part : parts) total += elements_of(part.shape);
  TORCH_CHECK(total == elements_of(shape), "ParameterStore: the parts of ", parts.front().name,
              " hold ", total, " elements, the leaf ", elements_of(shape));
  Leaf leaf{kind, at::empty({0}), std::move(shape), parts_.size(), parts.size()};
  leaf.tensor.set_requires_grad(true);
  for (NamedPart& part : parts) parts_.push_back({std::move(part), kind, {}, {}});
  leaves_.push_back(std::move(leaf));
  return leaves_.back().tensor;
}

at::Tensor ParameterStore::add_shared(ParameterKind kind, const NamedPart& part) {
  for (const Leaf& leaf : leaves_) {
    const NamedPart& first = parts_[leaf.first_part].part;
    if (first.name != part.name) continue;
    TORCH_CHECK(leaf.kind == kind && leaf.shape == part.shape, part.name,
                ": shared with another kind or shape");
    return leaf.tensor;
  }
  return add(kind, part);
}

int64_t ParameterStore::begin_bucket() {
  bucket_leaves_.push_back(leaves_.size());
  return num_buckets() - 1;
}

Interval ParameterStore::bucket(int64_t number, ParameterKind kind) const {
  const size_t end = number + 1 < num_buckets() ? bucket_leaves_[number + 1] : leaves_.size();
  Interval range;
  for (size_t i = bucket_leaves_.at(number); i < end; ++i) {
    if (leaves_[i].kind != kind) continue;
    const Interval leaf = range_of(leaves_[i]);
    range = {range.empty() ? leaf.begin : range.begin, leaf.end};
  }
  return range;
}

void ParameterStore::allocate(const Mesh& mesh, const Options& options) {
  TORCH_CHECK(buffers_.empty(), "ParameterStore: allocated twice");
  overlaps_gather_ = options.overlap_gather;
  gather_begun_ = gathered_ = num_buckets();
  gradients_under_way_ =
      std::make_unique<GradientsUnderWay>(/*limit=*/options.overlap_reduction ? 1 : 0);
  int64_t sizes[2] = {0, 0};
  place_parts(options, sizes);
  buffers_.push_back(make_buffer(ParameterKind::kDense, sizes[0], *mesh.world, options));
  buffers_.push_back(make_buffer(ParameterKind::kExpert, sizes[1], *mesh.data, options));
  for (const Buffer& buffer : buffers_) check_tiling(buffer);
  bind_leaves();
  if (options.purpose == Purpose::kTraining && !options.device.is_meta()) initialise(options.seed);
}

void ParameterStore::place_parts(const Options& options, int64_t (&sizes)[2]) {
  for (PlacedPart& placed : parts_) {
    int64_t& size = sizes[placed.kind == ParameterKind::kDense ? 0 : 1];
    placed.range = {size, size + elements_of(placed.part.shape)};
    size = placed.range.end;
    if (options.rule) {
      placed.rule = options.rule(placed.part);
    } else {
      placed.rule.decay = placed.part.shape.size() >= 2;
    }
    placed.rule.frozen |= options.purpose == Purpose::kInference;
  }
}

ParameterStore::Buffer ParameterStore::make_buffer(ParameterKind kind, int64_t elements,
                                                   Communicator& group,
                                                   const Options& options) const {
  const int64_t piece = (elements + group.size() - 1) / group.size();
  const int64_t padded = piece * group.size();
  const at::TensorOptions floats = at::TensorOptions(options.device).dtype(at::kFloat);
  Buffer buffer;
  buffer.kind = kind;
  buffer.group = &group;
  buffer.weights = at::zeros({padded}, floats.dtype(options.dtype));
  buffer.shard = {group.rank() * piece, (group.rank() + 1) * piece};
  buffer.state = options.zero_stage >= 1 ? buffer.shard : Interval{0, padded};
  buffer.gradient = options.zero_stage >= 2 ? buffer.shard : Interval{0, padded};
  if (options.purpose == Purpose::kInference) buffer.state = buffer.gradient = {0, 0};
  buffer.gradients = at::zeros({buffer.gradient.size()}, floats);
  if (options.dtype != at::kFloat) buffer.master = at::zeros({buffer.state.size()}, floats);
  buffer.exp_avg = at::zeros({buffer.state.size()}, floats);
  buffer.exp_avg_sq = at::zeros({buffer.state.size()}, floats);
  return buffer;
}

/// The group's shards follow one another from 0 to the end, in rank order, when all are of one
/// size.
void ParameterStore::check_tiling(const Buffer& buffer) {
  const int64_t ranks = buffer.group->size(), piece = buffer.shard.size();
  TORCH_CHECK(buffer.shard.begin == buffer.group->rank() * piece, "ParameterStore: shard from ",
              buffer.shard.begin, " on, of ", piece);
  at::Tensor pieces = at::empty({ranks}, at::kLong);
  buffer.group->all_gather(at::full({1}, piece, at::kLong), pieces, "shards of the parameters");
  TORCH_CHECK((pieces == piece).all().item<bool>(), "ParameterStore: the ", to_string(buffer.kind),
              " parameters differ between ranks: shards of ", pieces, " elements");
}

Interval ParameterStore::range_of(const Leaf& leaf) const {
  return {parts_[leaf.first_part].range.begin,
          parts_[leaf.first_part + leaf.num_parts - 1].range.end};
}

void ParameterStore::bind_leaves() {
  for (Leaf& leaf : leaves_) {
    const Interval range = range_of(leaf);
    Buffer& home = buffer(leaf.kind);
    const at::Tensor weights = home.weights.narrow(0, range.begin, range.size()).view(leaf.shape);
    if (weights.is_meta()) {  // set_data does not turn a tensor of the host into one without memory
      leaf.tensor.unsafeGetTensorImpl()->shallow_copy_from(weights.getIntrusivePtr());
    } else {
      leaf.tensor.set_data(weights);
    }
    bool all_frozen = true;
    for (size_t i = 0; i < leaf.num_parts; ++i)
      all_frozen &= parts_[leaf.first_part + i].rule.frozen;
    leaf.tensor.set_requires_grad(!all_frozen);
    if (all_frozen) continue;
    if (home.shards_gradients()) {
      shard_gradient_on_arrival(leaf.tensor, range, home, *gradients_under_way_);
    } else {  // backward adds into this float32 view, whatever the weights' dtype
      leaf.tensor.mutable_grad() =
          home.gradients.narrow(0, range.begin, range.size()).view(leaf.shape);
    }
  }
}

void ParameterStore::initialise(uint64_t seed) {
  for (const PlacedPart& placed : parts_) {
    at::Tensor values = at::empty({placed.range.size()}, at::kFloat);
    fill(values, placed.part, seed);
    Buffer& home = buffer(placed.kind);
    home.weights.narrow(0, placed.range.begin, placed.range.size()).copy_(values);
    const Interval kept = intersect(placed.range, home.state);
    if (home.master.defined() && !kept.empty()) {
      home.master.narrow(0, kept.begin - home.state.begin, kept.size())
          .copy_(values.narrow(0, kept.begin - placed.range.begin, kept.size()));
    }
  }
}

std::vector<at::Tensor> ParameterStore::leaves() const {
  check_gathered();
  std::vector<at::Tensor> tensors;
  for (const Leaf& leaf : leaves_) tensors.push_back(leaf.tensor);
  return tensors;
}

void ParameterStore::zero_gradients() {
  for (Buffer& buffer : buffers_) buffer.gradients.zero_();
}

void ParameterStore::gather_weights() {
  if (overlaps_gather_) {
    finish_gather();
    gather_begun_ = gathered_ = 0;
    begin_to_gather(gather_begun_++);
    return;
  }
  for (Buffer& buffer : buffers_) {
    if (!buffer.is_partitioned()) continue;
    const at::Tensor own = buffer.weights.narrow(0, buffer.shard.begin, buffer.shard.size());
    buffer.group->all_gather(own, buffer.weights, kGather);
  }
}

// One bucket ahead: NCCL launches what comes later, such as a layer's exchange of tokens, no sooner
// than this.
void ParameterStore::need_weights(int64_t number) {
  for (; gathered_ <= number && gathered_ < num_buckets(); ++gathered_) {
    if (gather_begun_ < num_buckets()) begin_to_gather(gather_begun_++);
    for (const auto& call : arriving_.front()) call->wait();
    arriving_.pop_front();
  }
}

void ParameterStore::begin_to_gather(int64_t bucket_number) {
  auto& calls = arriving_.emplace_back();
  for (Buffer& buffer : buffers_) {
    const Interval range = bucket(bucket_number, buffer.kind);
    if (!buffer.is_partitioned() || range.empty()) continue;
    at::Tensor weights = buffer.weights.narrow(0, range.begin, range.size());
    calls.push_back(buffer.group->start_all_gather_uneven(weights, buffer.owned(range), kGather));
  }
}

void ParameterStore::check_gathered() const {
  TORCH_CHECK(gathered_ >= gather_begun_,
              "ParameterStore: weights are under way: finish_gather first");
}

void ParameterStore::refresh_master() {
  for (Buffer& buffer : buffers_) {
    if (buffer.master.defined()) {
      buffer.master.copy_(buffer.weights.narrow(0, buffer.state.begin, buffer.state.size()));
    }
  }
}

std::vector<int64_t> ParameterStore::Buffer::owned(Interval range) const {
  const int64_t piece = shard.size();
  std::vector<int64_t> counts;
  for (int64_t r = 0; r < group->size(); ++r)
    counts.push_back(intersect(range, {r * piece, (r + 1) * piece}).size());
  return counts;
}

at::Tensor ParameterStore::weight_of(const PlacedPart& part) const {
  return buffer(part.kind)
      .weights.narrow(0, part.range.begin, part.range.size())
      .view(part.part.shape);
}

at::Tensor ParameterStore::gradient_of(const PlacedPart& part) const {
  TORCH_CHECK(!buffer(part.kind).shards_gradients(), "gradient_of ", part.part.name,
              ": no rank has all of it at ZeRO stage 2");
  return buffer(part.kind)
      .gradients.narrow(0, part.range.begin, part.range.size())
      .view(part.part.shape);
}

ParameterBytes ParameterStore::bytes() const {
  ParameterBytes bytes;
  for (const Buffer& buffer : buffers_) {
    bytes.weights += static_cast<int64_t>(buffer.weights.nbytes());
    bytes.gradients += static_cast<int64_t>(buffer.gradients.nbytes());
    bytes.optimizer += static_cast<int64_t>(buffer.exp_avg.nbytes() + buffer.exp_avg_sq.nbytes());
    if (buffer.master.defined()) bytes.optimizer += static_cast<int64_t>(buffer.master.nbytes());
  }
  return bytes;
}

int64_t ParameterStore::local_elements(ParameterKind kind) const {
  int64_t total = 0;
  for (const PlacedPart& placed : parts_) total += placed.kind == kind ? placed.range.size() : 0;
  return total;
}

}  // namespace switchyard
