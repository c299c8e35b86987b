#include "model/activation_plan.h"

#include <algorithm>
#include <utility>

#include "config/load_config.h"
#include "config/overlap.h"
#include "loss/linear_cross_entropy.h"
#include "moe/capacity.h"
#include "moe/choices_per_token.h"
#include "ops/activation.h"
#include "ops/blocked_gemm.h"
#include "ops/recompute.h"
#include "ops/swiglu_experts.h"

// T tokens of the micro-batch, D model width, F width of a feed-forward layer, V vocabulary,
// E experts, K experts per token. Names end as the tensors' do in the code that is counted.

namespace switchyard {
namespace {

/// Bytes that are alive as a step goes on, and the most that ever were.
class Ledger {
 public:
  void take(int64_t bytes) {
    live_ += bytes;
    pass(0);
  }
  void drop(int64_t bytes) { live_ -= bytes; }
  /// Alive for a moment, on top of the rest.
  void pass(int64_t bytes) {
    if (live_ + bytes <= peak_) return;
    peak_ = live_ + bytes;
    peak_at_ = place_;
  }
  void enter(std::string place) { place_ = std::move(place); }

  int64_t live() const { return live_; }
  int64_t peak() const { return peak_; }
  const std::string& peak_at() const { return peak_at_; }

 private:
  int64_t live_ = 0, peak_ = 0;
  std::string place_, peak_at_;
};

/// Forward and backward of one micro-batch, in the code's order.
class MicroStep {
 public:
  MicroStep(const RunConfig& config, at::ScalarType compute, int64_t world_size,
            RoutingCase routing)
      : model_(config.model),
        moe_(config.moe),
        rows_(routed_rows(config, routing)),
        world_(world_size),
        EP_(config.parallel.expert),
        zero_stage_(config.zero.stage),
        overlaps_reduction_(overlaps_reduction(config)),
        recompute_(parse_recompute(config.train.recompute)),
        documents_(config.data.mask_documents),
        S_(config.data.sequence_length),
        B_(config.train.micro_batch_size),
        w_(compute == at::kFloat ? 4 : 2),
        K_(choices_per_token(config.moe, Mode::kTrain)),
        gate_(is_gated(parse_ffn(config.model.ffn)) ? 2 : 1),
        is_moe_(config.model.num_hidden_layers) {
    for (const int64_t l : moe_layer_indices(moe_, model_.num_hidden_layers)) is_moe_[l] = true;
  }

  ActivationBytes run() {
    forward();
    ActivationBytes bytes;
    bytes.kept = ledger_.live();
    bytes.exchange = routers() * (again() ? order_kept() : exchange_kept());
    backward();
    ledger_.drop(std::exchange(under_way_, 0));
    TORCH_CHECK(ledger_.live() == 0, "activation plan: ", ledger_.live(), " bytes are left over");
    bytes.peak = ledger_.peak();
    bytes.peak_at = ledger_.peak_at();
    return bytes;
  }

 private:
  // Sizes of tensors in bytes.
  int64_t tokens(int64_t width) const { return T_ * width * w_; }
  int64_t statistics(int64_t width) const { return T_ * width * 4; }  // float32
  int64_t h() const { return tokens(model_.hidden_size); }
  int64_t q() const { return tokens(model_.num_attention_heads * model_.head_dim); }
  int64_t kv() const { return tokens(model_.num_key_value_heads * model_.head_dim); }
  int64_t of_rows(int64_t rows) const { return rows * model_.hidden_size * w_; }
  int64_t expert_hidden() const { return rows_.arrived * moe_.expert_intermediate_size * w_; }
  /// The mask of one layer: of each sequence with documents, of all with a window.
  int64_t mask_elements() const {
    const bool windowed = model_.sliding_window && *model_.sliding_window < S_;
    return (documents_ ? B_ : windowed ? 1 : 0) * S_ * S_;
  }

  /// Whether backward runs the pieces of a layer again.
  bool again() const { return recompute_ == Recompute::kLayer; }
  Inner inner_of_experts() const {
    return recompute_ == Recompute::kExperts ? Inner::kMadeAgain : Inner::kKept;
  }
  Inner inner_of_dense_layers() const {
    return recompute_ == Recompute::kNone ? Inner::kKept : Inner::kMadeAgain;
  }
  /// The mask and the tokens before each token, which whoever runs a layer again reads again.
  int64_t context() const { return mask_elements() + T_ * 8; }

  void forward() {
    ledger_.enter("forward of the layers");
    ledger_.take(T_ * 8);  // token ids, for the embedding
    ledger_.take(context());
    ledger_.take(h());
    forward_dropout();
    for (const bool moe : is_moe_) {
      const int64_t before = ledger_.live();
      forward_attended();
      if (again()) ledger_.drop(ledger_.live() - before - 2 * h());
      if (moe) {
        forward_moe();
      } else {
        forward_dense(model_.intermediate_size, inner_of_dense_layers());
      }
      forward_dropout();
      ledger_.take(h());                      // the residual's sum
      ledger_.drop(again() ? 2 * h() : h());  // what was added, and to what
    }
    if (!again()) ledger_.drop(context());
    forward_norm();
    forward_loss();
  }

  void forward_attended() {
    forward_norm();
    forward_attention();
    forward_norm();
  }

  /// Gradients, made some tokens at a time, are what is kept of the loss
  /// (linear_cross_entropy.cpp); where products are not blocked, all logits.
  void forward_loss() {
    ledger_.enter("forward of the loss");
    const int64_t V = model_.vocab_size;
    if (computes_blocked(model_.hidden_size)) {
      const int64_t depth = round_up(V, 32);
      const int64_t stride = row_stride(depth, w_);
      ledger_.take(statistics(1) + h() + 4 * head_elements());
      ledger_.pass(std::min(logits_at_once(V), round_up(T_, kBlockRows)) * stride * (4 + w_));
      ledger_.drop(statistics(1) + h());  // of each token; what the head read
      return;
    }
    ledger_.take(tokens(V));                 // logits
    ledger_.take(logits32());                // log softmax, which nll_loss keeps
    ledger_.pass(w_ == 4 ? 0 : logits32());  // logits in float32
    ledger_.drop(tokens(V));
  }

  int64_t logits32() const { return statistics(model_.vocab_size); }
  int64_t head_elements() const { return model_.vocab_size * model_.hidden_size; }

  /// Whether a product over `depth` columns is a blocked one (blocked_rows.h).
  bool computes_blocked(int64_t depth) const { return w_ == 4 || depth % 2 == 0; }
  bool fuses_swiglu(int64_t F) const {
    return model_.ffn == "swiglu" && computes_blocked(F) && computes_blocked(model_.hidden_size);
  }
  bool fuses_attention() const {
    return !norms_qk() && mask_elements() == 0 && computes_blocked(model_.head_dim);
  }

  /// Keeps its input, which the residual has counted, and one number per token.
  void forward_norm() {
    ledger_.take(statistics(1));
    ledger_.take(h());
  }

  /// The product with the mask takes the place of its input.
  void forward_dropout() {
    if (model_.dropout == 0) return;
    ledger_.take(h());  // the mask
    ledger_.pass(h() + (w_ == 4 ? 0 : statistics(model_.hidden_size)));
  }

  /// Whether keys and values are copied for the heads that share them; one head is a view.
  bool repeats() const {
    return model_.num_key_value_heads > 1 &&
           model_.num_attention_heads != model_.num_key_value_heads;
  }
  bool norms_qk() const { return model_.qk_norm != "none"; }

  /// What scaled_dot_product_attention and what is before it keep.
  int64_t attention_kept() const {
    const int64_t qk = norms_qk() ? q() + kv() + qk_statistics() : 0;
    const int64_t keys_values = repeats() ? 2 * q() : kv();  // values lie in the projection
    const int64_t projected = repeats() ? 0 : q() + 2 * kv();
    return qk + projected + q() + keys_values + attention_output() + mask_elements() * w_;
  }
  int64_t qk_statistics() const {
    return statistics(
        model_.qk_norm == "full" ? 2 : model_.num_attention_heads + model_.num_key_value_heads);
  }
  int64_t attention_output() const { return q() + statistics(model_.num_attention_heads); }

  void forward_attention() {
    const int64_t projected = q() + 2 * kv();
    ledger_.take(projected);
    if (fuses_attention()) {
      ledger_.take(attention_output() + h());
      forward_residual();
      return;
    }
    if (norms_qk()) ledger_.take(2 * (q() + kv()) + qk_statistics());  // copies, and their norms
    ledger_.pass(2 * q());                                             // a copy, and it turned
    ledger_.take(q());
    if (norms_qk()) ledger_.drop(q());
    ledger_.pass(2 * kv());
    ledger_.take(kv());
    if (norms_qk()) ledger_.drop(kv());
    if (repeats()) {
      ledger_.take(q());  // keys
      ledger_.drop(kv());
      ledger_.take(q());  // values
    }
    ledger_.pass(mask_elements());
    ledger_.take(mask_elements() * w_ + attention_output());
    ledger_.take(h());  // output projection
    if (repeats()) ledger_.drop(projected);
    forward_residual();
  }

  void forward_residual() {
    forward_dropout();
    ledger_.take(h());  // the residual's sum
    ledger_.drop(h());  // what was added
  }

  /// What the activation of a hidden layer of width F keeps, in widths: its input and, for the
  /// product after it, its output.
  int64_t widths_kept(int64_t F) const {
    if (fuses_swiglu(F)) return 2;
    if (model_.ffn == "swiglu") return 3;
    if (model_.ffn == "geglu") return 4;  // gelu's output is a factor
    return model_.ffn == "gelu" ? 2 : 1;  // relu keeps its output alone
  }

  void forward_dense(int64_t F, Inner inner) { forward_hidden(tokens(F), F, h(), inner); }

  /// Room for `columns` columns of the rows of a wave (swiglu_experts.h), of all that are `width`
  /// bytes F wide.
  int64_t wave(int64_t width, int64_t F, int64_t columns) const {
    const int64_t rows = std::min(width / (F * w_), swiglu_wave_rows());
    return rows * row_stride(columns, w_) * w_;
  }

  /// `width` bytes of inner activations, `out` of the result.
  void forward_hidden(int64_t width, int64_t F, int64_t out, Inner inner) {
    const int64_t kept = widths_kept(F) * width, all = (gate_ + 1) * width;
    const bool keeps = inner == Inner::kKept;
    if (fuses_swiglu(F)) {
      if (keeps) ledger_.take(kept);
      ledger_.pass(wave(width, F, F) + (keeps ? 0 : wave(width, F, 2 * F)) + out);
    } else {
      ledger_.pass(all);
      if (keeps) ledger_.take(kept);
      if (!keeps) ledger_.pass(kept + out);
    }
    ledger_.take(out);
  }

  /// Logits and probabilities in float32, ids of the choices, whether they are kept, and
  /// their weights on the way through normalising; in bfloat16 the router's input and its
  /// weights in float32, too.
  int64_t router_kept() const {
    const int64_t weights = moe_.router.normalize ? 3 * K_ + 1 : 2 * K_,
                  widened = w_ == 2 ? model_.hidden_size : 0;
    return statistics(2 * moe_.num_experts + weights + widened) + T_ * K_ * (8 + 1) +
           4 * widened * moe_.num_experts;
  }
  /// Whether nobody keeps the layer's input as it is: the router has its own copy.
  bool frees_input() const { return w_ == 2 && !has_shared() && !again(); }
  int64_t order_kept() const { return 8 * (T_ * K_ + (EP_ == 1 ? rows_.arrived : rows_.sent)); }
  int64_t exchange_kept() const {
    return of_rows(rows_.arrived) + of_rows(EP_ == 1 ? rows_.arrived : rows_.sent) + order_kept();
  }
  bool has_shared() const { return moe_.shared_experts.num > 0; }
  int64_t shared_width() const {
    return moe_.shared_experts.num * moe_.shared_experts.intermediate_size;
  }

  void forward_moe() {
    ledger_.take(router_kept() + order_kept());
    const int64_t before = ledger_.live();
    forward_experts();
    if (again()) ledger_.drop(ledger_.live() - before - h());
    if (frees_input()) ledger_.drop(h());
  }

  /// Shared experts come while rows are on their way, which begin in a buffer of their own.
  void forward_experts() {
    const int64_t sent = EP_ > 1 ? of_rows(rows_.sent) : 0;
    ledger_.take(sent);
    ledger_.take(of_rows(rows_.arrived));
    if (has_shared()) {
      forward_dense(shared_width(), inner_of_experts());
      if (moe_.shared_experts.gated) ledger_.take(h() + tokens(1));  // gated; both factors stay
    }
    ledger_.drop(sent);
    forward_hidden(expert_hidden(), moe_.expert_intermediate_size, of_rows(rows_.arrived),
                   inner_of_experts());
    ledger_.take(sent);  // the same, back
    ledger_.take(h());
    if (EP_ > 1) ledger_.drop(of_rows(rows_.arrived));
    if (has_shared()) {
      ledger_.take(h());  // the sum
      ledger_.drop(2 * h());
    }
  }

  void backward() {
    backward_loss();
    for (size_t l = is_moe_.size(); l-- > 0;) {
      ledger_.enter("backward of layer " + std::to_string(l));
      const int64_t ffn_branch = backward_dropout();
      if (is_moe_[l]) {
        backward_moe(ffn_branch);
      } else {
        backward_dense(model_.intermediate_size, ffn_branch, inner_of_dense_layers());
      }
      if (again()) {
        backward_attended_again();
        continue;
      }
      backward_norm();
      join_gradients();
      backward_attention(backward_dropout());
      backward_norm();
      join_gradients();
    }
    ledger_.enter("backward of the embedding");
    if (again()) ledger_.drop(context());
    const int64_t branch = backward_dropout();
    weight_gradient(head_elements(), world_);
    ledger_.drop(h() + branch + T_ * 8);
    arrive(head_elements(), world_);
  }

  void backward_loss() {
    ledger_.enter("backward of the loss");
    // The routers' losses come first: a gradient of the probabilities, and one of the logits
    // in place of these.
    ledger_.take(routers() * statistics(moe_.num_experts));
    if (computes_blocked(model_.hidden_size)) {
      weight_gradient(head_elements(), world_);
      ledger_.take(h());
      ledger_.drop(h() + 4 * head_elements());
      arrive(head_elements(), world_);
    } else {
      ledger_.take(2 * logits32());  // gradients of log softmax and of its input
      ledger_.drop(2 * logits32());  // log softmax and its gradient
      if (w_ == 2) {
        ledger_.take(tokens(model_.vocab_size));
        ledger_.drop(logits32());
      }
      ledger_.take(h());
      weight_gradient(head_elements(), world_);
      ledger_.drop(tokens(model_.vocab_size) + h());  // the head's input
      arrive(head_elements(), world_);
    }
    backward_norm();
  }

  /// Whether a leaf's gradient is reduced over `ranks` as backward has it.
  bool shards_gradients(int64_t ranks) const { return zero_stage_ >= 2 && ranks > 1; }

  /// What backward has of a leaf's gradient beside the buffer: nothing where products add to
  /// that (weight_gradient.h), a float32 sum at ZeRO stage 2.
  int64_t own_gradient(int64_t elements, int64_t ranks) const {
    return shards_gradients(ranks) ? 4 * elements : 0;
  }
  void weight_gradient(int64_t elements, int64_t ranks) {
    ledger_.take(own_gradient(elements, ranks));
  }

  /// That gradient goes to the buffer: widened in bfloat16, after rounding if it was a float32
  /// sum, and at stage 2 reduced (Open MPI's ring takes the leaf and up to two pieces more).
  void arrive(int64_t elements, int64_t ranks) {
    const int64_t own = own_gradient(elements, ranks);
    if (own == 0) return;
    int64_t more = w_ == 2 ? 4 * elements : 0;
    if (shards_gradients(ranks)) {
      const int64_t piece = 4 * elements / ranks;
      more = (w_ == 2 ? 2 * elements : 0) + piece + 4 * elements + (ranks == 2 ? piece : 2 * piece);
    }
    ledger_.pass(more);
    const bool waits = overlaps_reduction_ && shards_gradients(ranks);
    ledger_.drop(waits ? std::exchange(under_way_, own) : own);
  }

  /// Takes the place of its output's gradient with that of its input, which it had kept.
  void backward_norm() {
    ledger_.take(h());
    ledger_.pass(4 * (T_ + 127) / 128 * model_.hidden_size);  // pieces of the weight's gradient
    ledger_.drop(2 * h() + statistics(1));
  }

  /// The same two norms and attention, run again from the layer's input. That, the results and
  /// their gradients stay until all is over.
  void backward_attended_again() {
    forward_attended();
    ledger_.take(h());
    ledger_.pass(h());  // the sum of two gradients
    ledger_.drop(statistics(1));
    backward_attention(backward_dropout());
    ledger_.take(h());
    ledger_.drop(h() + statistics(1));
    join_gradients();
    ledger_.drop(5 * h());
  }

  /// That of the residual path and that of the branch become one.
  void join_gradients() { ledger_.drop(h()); }

  /// The bytes of a gradient that the branch has for itself; without dropout it is that of
  /// the residual path.
  int64_t backward_dropout() {
    if (model_.dropout == 0) return 0;
    ledger_.take(h());
    ledger_.drop(h());  // the mask
    return h();
  }

  /// y = x W^T: dx and dW for x and dy.
  void backward_linear(int64_t x, int64_t dy, int64_t elements, int64_t ranks) {
    ledger_.take(x);
    weight_gradient(elements, ranks);
    ledger_.drop(x + dy);
    arrive(elements, ranks);
  }

  /// The gradient of the activation's output, one `width`, becomes that of its input.
  void backward_activation(int64_t width) {
    if (model_.ffn == "swiglu") {
      ledger_.take(2 * width);
      ledger_.pass(2 * width);  // grad * up, and silu's gradient
      ledger_.drop(3 * width);
    } else if (model_.ffn == "geglu") {
      ledger_.take(2 * width);  // of gelu and of up
      ledger_.drop(2 * width);  // gelu, and the output's gradient
      ledger_.take(width);
      ledger_.drop(3 * width);  // gelu's gradient, the input
      ledger_.pass(2 * width);  // the two put together
    } else {
      ledger_.take(width);
      ledger_.drop(2 * width);
    }
  }

  /// The product after an activation, whose output relu itself keeps.
  void backward_down(int64_t width, int64_t dy, int64_t elements, int64_t ranks) {
    ledger_.take(width);
    weight_gradient(elements, ranks);
    ledger_.drop(dy + (model_.ffn == "relu" ? 0 : width));
    arrive(elements, ranks);
  }

  /// A feed-forward network of `width` bytes, `elements` weights in its down projection.
  void backward_hidden(int64_t width, int64_t F, int64_t x, int64_t dy, int64_t elements,
                       int64_t ranks, Inner inner) {
    if (!fuses_swiglu(F)) {
      if (inner == Inner::kKept) {
        backward_composed(width, x, dy, elements, ranks);
        return;
      }
      ledger_.take(widths_kept(F) * width);
      ledger_.take(x);  // the result, which stays until all is over, as its gradient does
      backward_composed(width, x, /*dy=*/0, elements, ranks);
      ledger_.drop(x + dy);
      return;
    }
    // The gradient of gate and up, and the activation anew.
    const int64_t room = wave(width, F, 2 * F) + wave(width, F, F);
    ledger_.take(room);
    weight_gradient(3 * elements, ranks);
    ledger_.take(x);
    ledger_.drop(room);
    ledger_.drop((inner == Inner::kKept ? 2 * width : 0) + x + dy);  // and the output's gradient
    arrive(elements, ranks);
    arrive(2 * elements, ranks);
  }

  void backward_composed(int64_t width, int64_t x, int64_t dy, int64_t elements, int64_t ranks) {
    backward_down(width, dy, elements, ranks);
    backward_activation(width);
    backward_linear(x, gate_ * width, gate_ * elements, ranks);
  }

  void backward_dense(int64_t F, int64_t branch, Inner inner) {
    const int64_t D = model_.hidden_size;
    backward_hidden(tokens(F), F, h(), branch, D * F, world_, inner);
  }

  void backward_attention(int64_t branch) {
    const int64_t D = model_.hidden_size, NH = model_.num_attention_heads * model_.head_dim,
                  MH = model_.num_key_value_heads * model_.head_dim,
                  before_norms = norms_qk() ? q() + kv() + qk_statistics() : 0;
    ledger_.take(q());
    weight_gradient(D * NH, world_);
    ledger_.drop(branch);
    arrive(D * NH, world_);
    if (fuses_attention()) {
      ledger_.take(q() + 2 * kv());
      ledger_.drop(q() + attention_output() + q() + 2 * kv());
      backward_linear(h(), q() + 2 * kv(), (NH + 2 * MH) * D, world_);
      return;
    }
    ledger_.take(3 * q());
    ledger_.drop(q() + attention_kept() - before_norms);
    if (kv() != q()) {  // summed over the heads that share them
      ledger_.take(2 * kv());
      ledger_.drop(2 * q());
    }
    ledger_.pass(q());  // turned back, one after the other
    if (norms_qk()) ledger_.pass(q() + statistics(NH));
    ledger_.drop(before_norms);
    ledger_.pass(q() + 2 * kv());  // put together
    backward_linear(h(), q() + 2 * kv(), (NH + 2 * MH) * D, world_);
  }

  void backward_moe(int64_t branch) {
    if (again()) {
      forward_experts();
      backward_experts(/*branch=*/0);
      ledger_.drop(h() + branch);      // the result, and its gradient
      if (w_ == 2) ledger_.drop(h());  // the layer's input: the router has its own copy
    } else {
      backward_experts(branch);
    }
    ledger_.drop(order_kept());
    backward_router();
  }

  void backward_experts(int64_t branch) {
    const int64_t D = model_.hidden_size, F = moe_.expert_intermediate_size,
                  local = moe_.num_experts / EP_, data = world_ / EP_,
                  back = of_rows(EP_ == 1 ? rows_.arrived : rows_.sent);
    ledger_.take(back);
    ledger_.drop(back + (has_shared() ? 0 : branch));  // what came back from the experts
    if (EP_ > 1) {
      ledger_.take(of_rows(rows_.arrived));
      ledger_.drop(back);
    }
    backward_hidden(expert_hidden(), F, of_rows(rows_.arrived), of_rows(rows_.arrived),
                    local * F * D, data, inner_of_experts());
    if (EP_ > 1) ledger_.take(back);
    if (has_shared()) backward_shared(branch);
    if (EP_ > 1) ledger_.drop(of_rows(rows_.arrived));
    ledger_.take(h());
    ledger_.drop(back);
    if (has_shared()) join_gradients();
  }

  /// While the gradients of rows are on their way.
  void backward_shared(int64_t branch) {
    const bool gated = moe_.shared_experts.gated;
    if (gated) {
      ledger_.take(h());
      ledger_.drop(h() + tokens(1) + branch);
      ledger_.take(h());  // the gate's part of the gradient of the layer's input
    }
    backward_dense(shared_width(), gated ? h() : branch, inner_of_experts());
    if (gated) join_gradients();
    if (w_ == 4 || again()) ledger_.take(h());  // not yet: others keep the input, too
  }

  void backward_router() {
    const int64_t D = model_.hidden_size, E = moe_.num_experts;
    ledger_.pass(2 * statistics(E));
    ledger_.take(statistics(D) + 4 * E * D);
    ledger_.drop(statistics(E) + router_kept());
    ledger_.drop(4 * E * D);
    if (w_ == 2) {
      ledger_.take(h());
      ledger_.drop(statistics(D));
    } else {
      ledger_.drop(h());  // the layer's input
    }
    join_gradients();
  }

  int64_t routers() const { return std::count(is_moe_.begin(), is_moe_.end(), true); }

  const ModelConfig& model_;
  const MoeConfig& moe_;
  RoutedRows rows_;
  int64_t world_, EP_, zero_stage_;
  bool overlaps_reduction_;
  int64_t under_way_ = 0;  // a gradient that its owners have not got yet
  Recompute recompute_;
  bool documents_;
  int64_t S_, B_, T_ = S_ * B_, w_;
  int64_t K_, gate_;
  std::vector<bool> is_moe_;
  Ledger ledger_;
};

}  // namespace

RoutedRows routed_rows(const RunConfig& config, RoutingCase routing) {
  const MoeConfig& moe = config.moe;
  const int64_t S = config.data.sequence_length, B = config.train.micro_batch_size,
                K = choices_per_token(moe, Mode::kTrain), EP = config.parallel.expert,
                local = moe.num_experts / EP,
                group = moe.capacity.scope == "rank" ? S * B : S * moe.group_sequences;
  int64_t slots = S * B;  // of one expert, for the tokens of one rank
  if (moe.capacity.factor) {
    slots = std::min(
        slots, S * B / group *
                   expert_capacity(moe.capacity, *moe.capacity.factor, group, moe.num_experts, K));
  }
  RoutedRows rows;
  rows.sent = std::min(S * B * K, slots * moe.num_experts);
  rows.arrived = routing == RoutingCase::kBalanced
                     ? rows.sent
                     : EP * std::min(S * B * std::min(K, local), slots * local);
  return rows;
}

ActivationBytes planned_activations(const RunConfig& config, at::ScalarType compute,
                                    int64_t world_size, RoutingCase routing) {
  return MicroStep(config, compute, world_size, routing).run();
}

}  // namespace switchyard
