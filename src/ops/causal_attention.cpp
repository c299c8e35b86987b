#include "ops/causal_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <limits>

#include "ops/blocked_gemm.h"
#include "ops/blocked_rows.h"
#include "ops/cuda/kernels.h"
#include "ops/vector_math.h"

// B sequences, S positions, N query heads, M key-value heads, H head width.

namespace switchyard {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kQueries = kQueryBlock, kKeys = kKeyBlock;
constexpr int64_t kLanes = 16;  // of the widest vectors
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// Where one sequence's head stands in (B, S, stride): rows of H numbers.
template <class scalar_t>
struct Head {
  scalar_t* data;
  int64_t stride;
  scalar_t* row(int64_t s) const { return data + s * stride; }
};

/// What all heads share.
struct Shape {
  int64_t B, S, N, M, H;
  float scale() const { return 1.0F / std::sqrt(static_cast<float>(H)); }
  int64_t width() const { return (N + 2 * M) * H; }
  int64_t key_blocks() const { return (S + kKeys - 1) / kKeys; }
  /// Key blocks that queries [first, first + kQueries) look at.
  int64_t seen_blocks(int64_t first) const {
    return (std::min(first + kQueries, S) + kKeys - 1) / kKeys;
  }
};

struct Turn {
  Turn(const RotaryTable& table, float sign_)
      : cos(table.cos_SH.data_ptr<float>()),
        sin(table.sin_SH.data_ptr<float>()),
        half(table.cos_SH.size(1)),
        sign(sign_) {}

  const float *cos, *sin;
  int64_t half;
  float sign;  // 1 forward, -1 back

  /// `to` = `from` turned as position s is; float32 arithmetic.
  template <class from_t, class to_t>
  void operator()(int64_t s, const from_t* from, to_t* to, int64_t H) const {
    const float *c = cos + s * half, *n = sin + s * half;
#pragma omp simd
    for (int64_t i = 0; i < half; ++i) {
      const float a = from[i], b = from[i + half], turned = sign * n[i];
      store_rounded(to + i, a * c[i] - b * turned);
      store_rounded(to + i + half, b * c[i] + a * turned);
    }
    for (int64_t i = 2 * half; i < H; ++i) to[i] = static_cast<to_t>(from[i]);
  }
};

/// Rows of a head next to one another, zeros behind the last: (count, H).
template <class scalar_t>
class Rows {
 public:
  Rows(int64_t count, int64_t H) : H_(H), data_(count * H) {}

  void load(const Head<const scalar_t>& head, int64_t first, int64_t count, const Turn* turn) {
    for (int64_t r = 0; r < count; ++r) {
      scalar_t* to = data_.data() + r * H_;
      if (turn != nullptr) {
        (*turn)(first + r, head.row(first + r), to, H_);
      } else {
        std::copy_n(head.row(first + r), H_, to);
      }
    }
    std::fill(data_.begin() + count * H_, data_.end(), scalar_t(0));
  }

  const scalar_t* data() const { return data_.data(); }
  MatrixRef<scalar_t> matrix() const {
    return {data_.data(), static_cast<int64_t>(data_.size()) / H_, H_, H_};
  }

 private:
  int64_t H_;
  std::vector<scalar_t> data_;
};

/// Keys or values of one head as the right-hand side of products, kKeys at a time:
/// `columns` x @ k^T, `rows` p @ k.
template <class scalar_t>
struct KeyPanels {
  std::vector<Panel<scalar_t>> columns, rows;

  void load(const Head<const scalar_t>& head, const Shape& shape, const Turn* turn,
            Rows<scalar_t>& room) {
    columns.resize(shape.key_blocks());
    rows.resize(shape.key_blocks());
    for (int64_t c = 0; c < shape.key_blocks(); ++c) {
      room.load(head, c * kKeys, std::min(kKeys, shape.S - c * kKeys), turn);
      columns[c].reshape(shape.H, kKeys);
      columns[c].pack_transposed(room.matrix());
      rows[c].reshape(kKeys, shape.H);
      rows[c].pack(room.matrix());
    }
  }
};

/// The heads of one sequence in a (B, S, width) tensor of queries, keys and values.
template <class scalar_t>
struct QkvHeads {
  scalar_t* data;
  const Shape& shape;

  Head<scalar_t> at(int64_t b, int64_t column) const {
    return {data + b * shape.S * shape.width() + column * shape.H, shape.width()};
  }
  Head<scalar_t> query(int64_t b, int64_t n) const { return at(b, n); }
  Head<scalar_t> key(int64_t b, int64_t m) const { return at(b, shape.N + m); }
  Head<scalar_t> value(int64_t b, int64_t m) const { return at(b, shape.N + shape.M + m); }
};

template <class scalar_t>
Head<scalar_t> output_head(scalar_t* data, const Shape& shape, int64_t b, int64_t n) {
  return {data + (b * shape.S * shape.N + n) * shape.H, shape.N * shape.H};
}

/// Visible keys of query q in the block that begins at `first_key`.
int64_t visible_keys(int64_t q, int64_t first_key) {
  return std::clamp<int64_t>(q - first_key + 1, 0, kKeys);
}

/// Hides what follows the visible scores of a row, as far as whole vectors reach: how many to
/// compute with, so that loops have no remainder.
int64_t hide_rest(float* scores, int64_t visible) {
  const int64_t count = round_up(visible, kLanes), first = count - kLanes;
#pragma omp simd
  for (int64_t j = std::max<int64_t>(0, first); j < count; ++j) {
    scores[j] = j < visible ? scores[j] : kMinusInfinity;
  }
  return count;
}

template <class scalar_t>
float dot(const scalar_t* a, const scalar_t* b, int64_t count) {
  return sum_of<float>(
      count, [=](int64_t i) { return static_cast<float>(a[i]) * static_cast<float>(b[i]); });
}

/// One query's running softmax over blocks of keys: turns the scores into exp(score - max), zero
/// where not visible, and returns what the earlier sums are to be multiplied by.
float follow(float* scores, int64_t visible, float scale, float& max, float& sum) {
  const int64_t count = hide_rest(scores, visible);
  const float top = count == 0 ? max : std::max(max, largest(scores, count) * scale);
  const float added = sum_of<float>(
      count, [=](int64_t j) { return scores[j] = fast_exp(scores[j] * scale - top); });
  std::fill(scores + count, scores + kKeys, 0.0F);
  const float keep = max == kMinusInfinity ? 0.0F : fast_exp(max - top);
  max = top;
  sum = sum * keep + added;
  return keep;
}

/// A block of float32 as the left side of a product: rounded into `room`, or itself.
template <class scalar_t>
const scalar_t* as_factor(const std::vector<float>& block, std::vector<scalar_t>& room) {
  if constexpr (std::is_same_v<scalar_t, float>)
    return block.data();
  else {
    round_row(block.data(), room.data(), static_cast<int64_t>(block.size()));
    return room.data();
  }
}

template <class scalar_t>
class Forward {
 public:
  Forward(const Shape& shape, const RotaryTable& table)
      : shape_(shape),
        turn_(table, 1.0F),
        queries_(kQueries, shape.H),
        room_(kKeys, shape.H),
        scores_(kQueries * kKeys),
        p_(kQueries * kKeys),
        sums_(kQueries * shape.H) {}

  void load_keys(const Head<const scalar_t>& keys, const Head<const scalar_t>& values) {
    keys_.load(keys, shape_, &turn_, room_);
    values_.load(values, shape_, nullptr, room_);
  }

  /// One query head: its output, and the logarithm of each query's softmax denominator.
  void run(const Head<const scalar_t>& queries, const Head<scalar_t>& out, float* lse) {
    const int64_t H = shape_.H;
    for (int64_t q = 0; q < shape_.S; q += kQueries) {
      const int64_t count = std::min(kQueries, shape_.S - q);
      queries_.load(queries, q, count, &turn_);
      std::fill(sums_.begin(), sums_.end(), 0.0F);
      float max[kQueries], sum[kQueries] = {};
      std::fill_n(max, kQueries, kMinusInfinity);
      for (int64_t c = 0; c < shape_.seen_blocks(q); ++c) {
        keys_.columns[c].multiply(queries_.data(), H, kQueries, H, scores_.data(), kKeys, false);
        for (int64_t r = 0; r < kQueries; ++r) {
          const float keep = follow(scores_.data() + r * kKeys, visible_keys(q + r, c * kKeys),
                                    shape_.scale(), max[r], sum[r]);
          float* sums = sums_.data() + r * H;
#pragma omp simd
          for (int64_t h = 0; h < H; ++h) sums[h] *= keep;
        }
        values_.rows[c].multiply(as_factor(scores_, p_), kKeys, kQueries, kKeys, sums_.data(), H,
                                 true);
      }
      for (int64_t r = 0; r < count; ++r) {
        const float inverse = 1.0F / sum[r];
        scalar_t* to = out.row(q + r);
        const float* sums = sums_.data() + r * H;
#pragma omp simd
        for (int64_t h = 0; h < H; ++h) store_rounded(to + h, sums[h] * inverse);
        lse[q + r] = max[r] + std::log(sum[r]);
      }
    }
  }

 private:
  const Shape& shape_;
  Turn turn_;
  Rows<scalar_t> queries_, room_;
  KeyPanels<scalar_t> keys_, values_;
  std::vector<float> scores_;
  std::vector<scalar_t> p_;
  std::vector<float> sums_;
};

template <class scalar_t>
class Backward {
 public:
  Backward(const Shape& shape, const RotaryTable& table)
      : shape_(shape),
        turn_(table, 1.0F),
        turn_back_(table, -1.0F),
        queries_(kQueries, shape.H),
        dout_(kQueries, shape.H),
        room_(kKeys, shape.H),
        scores_(kQueries * kKeys),
        dp_(kQueries * kKeys),
        dquery_(kQueries * shape.H),
        dkeys_(shape.key_blocks() * kKeys * shape.H),
        dvalues_(dkeys_.size()),
        p_(kQueries * kKeys),
        ds_(kQueries * kKeys),
        transposed_(kQueries * kKeys) {}

  void load_keys(const Head<const scalar_t>& keys, const Head<const scalar_t>& values) {
    keys_.load(keys, shape_, &turn_, room_);
    values_.load(values, shape_, nullptr, room_);
    std::fill(dkeys_.begin(), dkeys_.end(), 0.0F);
    std::fill(dvalues_.begin(), dvalues_.end(), 0.0F);
  }

  /// One query head: its gradient, and its part of the keys' and values'.
  void run(const Head<const scalar_t>& queries, const Head<const scalar_t>& out,
           const Head<const scalar_t>& dout, const float* lse, const Head<scalar_t>& dqueries) {
    const int64_t H = shape_.H;
    for (int64_t q = 0; q < shape_.S; q += kQueries) {
      const int64_t count = std::min(kQueries, shape_.S - q);
      queries_.load(queries, q, count, &turn_);
      dout_.load(dout, q, count, nullptr);
      query_rows_.reshape(kQueries, H);
      query_rows_.pack(queries_.matrix());
      dout_rows_.reshape(kQueries, H);
      dout_rows_.pack(dout_.matrix());
      float delta[kQueries];
      for (int64_t r = 0; r < count; ++r) {
        delta[r] = dot(out.row(q + r), dout.row(q + r), H);
      }
      std::fill(dquery_.begin(), dquery_.end(), 0.0F);
      for (int64_t c = 0; c < shape_.seen_blocks(q); ++c) run_block(q, count, c, lse, delta);
      for (int64_t r = 0; r < count; ++r) {
        turn_back_(q + r, dquery_.data() + r * H, dqueries.row(q + r), H);
      }
    }
  }

  void store_keys(const Head<scalar_t>& dkeys, const Head<scalar_t>& dvalues) const {
    const int64_t H = shape_.H;
    for (int64_t s = 0; s < shape_.S; ++s) {
      turn_back_(s, dkeys_.data() + s * H, dkeys.row(s), H);
      for (int64_t h = 0; h < H; ++h) {
        store_rounded(dvalues.row(s) + h, dvalues_[s * H + h]);
      }
    }
  }

 private:
  void run_block(int64_t q, int64_t count, int64_t c, const float* lse, const float* delta) {
    const int64_t H = shape_.H;
    const float scale = shape_.scale();
    keys_.columns[c].multiply(queries_.data(), H, kQueries, H, scores_.data(), kKeys, false);
    values_.columns[c].multiply(dout_.data(), H, kQueries, H, dp_.data(), kKeys, false);
    for (int64_t r = 0; r < kQueries; ++r) {
      const int64_t visible = r < count ? visible_keys(q + r, c * kKeys) : 0;
      const float shift = r < count ? lse[q + r] : 0.0F, mean = r < count ? delta[r] : 0.0F;
      float *scores = scores_.data() + r * kKeys, *dp = dp_.data() + r * kKeys;
      const int64_t seen = hide_rest(scores, visible);
#pragma omp simd
      for (int64_t j = 0; j < seen; ++j) {
        const float p = fast_exp(scores[j] * scale - shift);
        scores[j] = p;
        dp[j] = p * (dp[j] - mean) * scale;
      }
      std::fill(scores + seen, scores + kKeys, 0.0F);
      std::fill(dp + seen, dp + kKeys, 0.0F);
    }
    const scalar_t *p = as_factor(scores_, p_), *ds = as_factor(dp_, ds_);
    keys_.rows[c].multiply(ds, kKeys, kQueries, kKeys, dquery_.data(), H, true);
    add_transposed(p, dout_rows_, dvalues_.data() + c * kKeys * H);
    add_transposed(ds, query_rows_, dkeys_.data() + c * kKeys * H);
  }

  /// to (kKeys, H) += x^T @ panel, of x (kQueries, kKeys).
  void add_transposed(const scalar_t* x, const Panel<scalar_t>& panel, float* to) {
    transpose(MatrixRef<scalar_t>{x, kQueries, kKeys, kKeys}, transposed_.data(), kQueries);
    panel.multiply(transposed_.data(), kQueries, kKeys, kQueries, to, shape_.H, true);
  }

  const Shape& shape_;
  Turn turn_, turn_back_;
  Rows<scalar_t> queries_, dout_, room_;
  KeyPanels<scalar_t> keys_, values_;
  Panel<scalar_t> query_rows_, dout_rows_;
  std::vector<float> scores_, dp_, dquery_, dkeys_, dvalues_;
  std::vector<scalar_t> p_, ds_, transposed_;
};

Shape shape_of(const Tensor& qkv_BSX, const HeadShape& heads) {
  return {qkv_BSX.size(0), qkv_BSX.size(1), heads.query, heads.key_value, heads.width};
}

class CausalAttention : public torch::autograd::Function<CausalAttention> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& qkv_BSX, const Tensor& cos_SH,
                        const Tensor& sin_SH, const HeadShape& heads) {
    const Shape shape = shape_of(qkv_BSX, heads);
    const RotaryTable table{cos_SH, sin_SH};
    Tensor out_BSX = at::empty({shape.B, shape.S, shape.N * shape.H}, qkv_BSX.options());
    Tensor lse_BNS = at::empty({shape.B, shape.N, shape.S}, qkv_BSX.options().dtype(at::kFloat));
    dispatch_blocked(qkv_BSX.scalar_type(), [&](auto zero) {
      using scalar_t = decltype(zero);
      const QkvHeads<const scalar_t> qkv{qkv_BSX.data_ptr<scalar_t>(), shape};
      auto* out = out_BSX.data_ptr<scalar_t>();
      at::parallel_for(0, shape.B * shape.M, 1, [&](int64_t begin, int64_t end) {
        Forward<scalar_t> forward(shape, table);
        for (int64_t i = begin; i < end; ++i) {
          const int64_t b = i / shape.M, m = i % shape.M, group = shape.N / shape.M;
          forward.load_keys(qkv.key(b, m), qkv.value(b, m));
          for (int64_t n = m * group; n < (m + 1) * group; ++n) {
            forward.run(qkv.query(b, n), output_head(out, shape, b, n),
                        lse_BNS.data_ptr<float>() + (b * shape.N + n) * shape.S);
          }
        }
        end_of_products();
      });
    });
    ctx->save_for_backward({qkv_BSX, cos_SH, sin_SH, out_BSX, lse_BNS});
    ctx->saved_data["heads"] = std::vector<int64_t>{heads.query, heads.key_value, heads.width};
    return out_BSX;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &qkv_BSX = saved[0], &out_BSX = saved[3], &lse_BNS = saved[4];
    const RotaryTable table{saved[1], saved[2]};
    const auto heads = ctx->saved_data["heads"].toIntVector();
    const Shape shape = shape_of(qkv_BSX, {heads[0], heads[1], heads[2]});
    const Tensor dout_BSX = grads[0].contiguous();
    Tensor dqkv_BSX = at::empty_like(qkv_BSX);
    dispatch_blocked(qkv_BSX.scalar_type(), [&](auto zero) {
      using scalar_t = decltype(zero);
      const QkvHeads<const scalar_t> qkv{qkv_BSX.data_ptr<scalar_t>(), shape};
      const QkvHeads<scalar_t> dqkv{dqkv_BSX.data_ptr<scalar_t>(), shape};
      const scalar_t *out = out_BSX.data_ptr<scalar_t>(), *dout = dout_BSX.data_ptr<scalar_t>();
      at::parallel_for(0, shape.B * shape.M, 1, [&](int64_t begin, int64_t end) {
        Backward<scalar_t> backward(shape, table);
        for (int64_t i = begin; i < end; ++i) {
          const int64_t b = i / shape.M, m = i % shape.M, group = shape.N / shape.M;
          backward.load_keys(qkv.key(b, m), qkv.value(b, m));
          for (int64_t n = m * group; n < (m + 1) * group; ++n) {
            backward.run(qkv.query(b, n), output_head(out, shape, b, n),
                         output_head(dout, shape, b, n),
                         lse_BNS.data_ptr<float>() + (b * shape.N + n) * shape.S, dqkv.query(b, n));
          }
          backward.store_keys(dqkv.key(b, m), dqkv.value(b, m));
        }
        end_of_products();
      });
    });
    return {dqkv_BSX, Tensor(), Tensor(), Tensor()};
  }
};

/// What LibTorch chooses its kernels among, while a scope lasts or until `end`. Those of attention
/// on a GPU otherwise add gradients in an order that is left to chance.
struct Repeatable {
  Repeatable() { begin(); }
  ~Repeatable() { end(); }
  Repeatable(const Repeatable&) = delete;
  Repeatable& operator=(const Repeatable&) = delete;

  static void begin() {
    at::globalContext().setDeterministicFillUninitializedMemory(false);
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  }
  static void end() { at::globalContext().setDeterministicAlgorithms(false, /*warn_only=*/false); }
};

}  // namespace

Tensor attention_of_heads(const Tensor& q_BNSH, const Tensor& k_BMSH, const Tensor& v_BMSH,
                          const Tensor& mask, Visible visible) {
  const auto attend = [&] {
    return at::scaled_dot_product_attention(
        q_BNSH, k_BMSH, v_BMSH, mask.defined() ? std::optional(mask) : std::nullopt,
        /*dropout_p=*/0.0, /*is_causal=*/visible == Visible::kPast, /*scale=*/{},
        /*enable_gqa=*/q_BNSH.size(1) != k_BMSH.size(1));
  };
  // Heads of other widths are products and a softmax, which repeat themselves.
  const bool fused = cuda::has_kernels(q_BNSH) && q_BNSH.size(3) % 8 == 0 && q_BNSH.size(3) <= 256;
  if (!fused) return attend();
  const Repeatable scope;
  Tensor y_BNSH = attend();
  if (y_BNSH.requires_grad() && q_BNSH.requires_grad()) {  // around backward, on its thread
    y_BNSH.register_hook([](const Tensor&) { Repeatable::begin(); });
    q_BNSH.register_hook([](const Tensor&) { Repeatable::end(); });
  }
  return y_BNSH;
}

Tensor composed_attention(const Tensor& qkv_BSX, const RotaryTable& table, const HeadShape& heads) {
  const int64_t B = qkv_BSX.size(0), S = qkv_BSX.size(1), N = heads.query, M = heads.key_value,
                H = heads.width;
  if (B == 0 || S == 0) return qkv_BSX.narrow(2, 0, N * H);  // none, in the graph
  const auto parts = qkv_BSX.split_with_sizes({(N + M) * H, M * H}, /*dim=*/2);
  const auto turned =
      apply_rotary(parts[0].view({B, S, N + M, H}), table).split_with_sizes({N, M}, /*dim=*/2);
  const Tensor q = turned[0].transpose(1, 2), k = turned[1].transpose(1, 2),
               v = parts[1].view({B, S, M, H}).transpose(1, 2);
  return attention_of_heads(q, k, v, /*mask=*/{}, Visible::kPast)
      .transpose(1, 2)
      .reshape({B, S, N * H});
}

bool fits_causal_attention(const Tensor& qkv_BSX, const HeadShape& heads) {
  if (!qkv_BSX.is_cpu()) return true;
  return has_blocked_gemm(qkv_BSX.scalar_type()) && heads.width % 2 == 0;
}

Tensor causal_attention(const Tensor& qkv_BSX, const RotaryTable& table, const HeadShape& heads) {
  TORCH_CHECK(qkv_BSX.dim() == 3 &&
                  qkv_BSX.size(2) == (heads.query + 2 * heads.key_value) * heads.width &&
                  heads.query % heads.key_value == 0 && table.cos_SH.size(0) == qkv_BSX.size(1) &&
                  2 * table.cos_SH.size(1) <= heads.width,
              "causal_attention: qkv_BSX ", qkv_BSX.sizes(), ", ", heads.query, " and ",
              heads.key_value, " heads of width ", heads.width, ", table ", table.cos_SH.sizes());
  if (!qkv_BSX.is_cpu()) return composed_attention(qkv_BSX, table, heads);
  return CausalAttention::apply(qkv_BSX.contiguous(), table.cos_SH, table.sin_SH, heads);
}

}  // namespace switchyard
