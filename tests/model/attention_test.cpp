#include "model/attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <map>

#include "model/sample_decoder.h"
#include "ops/rms_norm.h"
#include "support/tensors.h"

// B sequences, S positions, N query heads, M key-value heads, H head width.

namespace switchyard {
namespace {

using at::Tensor;

struct SampleAttention {
  Mesh mesh = solo_mesh();
  ParameterStore store;
  Attention attention;

  explicit SampleAttention(const ModelConfig& model) : attention(store, "attention", model) {
    store.allocate(mesh, {});
    // Biases start at 0 and norms at 1: give them values that can go wrong.
    for (const PlacedPart& placed : store.parts()) {
      const Tensor noise = normal_tensor(placed.part.shape, placed.part.name, at::kFloat);
      if (placed.part.shape.size() == 1) store.weight_of(placed).add_(0.3 * noise);
    }
  }
};

AttentionContext context_of(const ModelConfig& model, int64_t S) {
  AttentionContext context;
  context.rotary = rotary_table(0, S, rotary_frequencies(model));
  return context;
}

/// The definition, query by query and head by head, with plain operations.
class ReferenceAttention {
 public:
  ReferenceAttention(const SampleAttention& sample, const ModelConfig& model) : model_(model) {
    for (const PlacedPart& placed : sample.store.parts()) {
      const std::string name = placed.part.name.substr(std::string("attention.").size());
      leaves_[name] = sample.store.weight_of(placed).detach().clone().set_requires_grad(true);
    }
  }

  const std::map<std::string, Tensor>& leaves() const { return leaves_; }

  Tensor forward(const Tensor& x_BSD, const AttentionContext& context) const {
    const int64_t B = x_BSD.size(0), S = x_BSD.size(1), N = model_.num_attention_heads,
                  M = model_.num_key_value_heads;
    const Tensor q_BSNH = heads(x_BSD, "q", N, context), k_BSMH = heads(x_BSD, "k", M, context),
                 v_BSMH = project(x_BSD, "v").view({B, S, M, -1});
    std::vector<Tensor> rows;
    for (int64_t b = 0; b < B; ++b) {
      for (int64_t s = 0; s < S; ++s) {
        for (int64_t n = 0; n < N; ++n) {
          const int64_t m = n / (N / M);
          const Tensor keys = k_BSMH[b].narrow(0, 0, s + 1).select(1, m);
          const Tensor values = v_BSMH[b].narrow(0, 0, s + 1).select(1, m);
          const double scale = 1 / std::sqrt(static_cast<double>(model_.head_dim));
          const Tensor weights = (at::matmul(keys, q_BSNH[b][s][n]) * scale).softmax(0);
          rows.push_back(at::matmul(weights, values));
        }
      }
    }
    return at::matmul(at::stack(rows).view({B, S, -1}), leaves_.at("o_proj.weight").t());
  }

 private:
  Tensor project(const Tensor& x_BSD, const std::string& which) const {
    const Tensor y = at::matmul(x_BSD, leaves_.at(which + "_proj.weight").t());
    return model_.attention_bias ? y + leaves_.at(which + "_proj.bias") : y;
  }

  Tensor heads(const Tensor& x_BSD, const std::string& which, int64_t count,
               const AttentionContext& context) const {
    Tensor y = project(x_BSD, which);
    const auto norm = [&](const Tensor& x) {
      return rms_norm(x, leaves_.at(which + "_norm.weight"), model_.rms_norm_eps);
    };
    if (model_.qk_norm == "full") y = norm(y);
    y = y.view({x_BSD.size(0), x_BSD.size(1), count, -1});
    if (model_.qk_norm == "head") y = norm(y);
    return apply_rotary(y, context.rotary);
  }

  ModelConfig model_;
  std::map<std::string, Tensor> leaves_;
};

TEST(AttentionTest, EqualsItsDefinitionForwardAndBackward) {
  for (const char* qk_norm : {"none", "head", "full"}) {
    for (const int64_t kv_heads : {1, 2, 4}) {
      for (const bool bias : {false, true}) {
        SCOPED_TRACE(std::string(qk_norm) + ", " + std::to_string(kv_heads) + " key-value heads");
        ModelConfig model = small_model();
        model.qk_norm = qk_norm;
        model.num_key_value_heads = kv_heads;
        model.attention_bias = bias;
        SampleAttention sample(model);
        const ReferenceAttention reference(sample, model);
        const Tensor x_BSD = normal_tensor({2, 7, 8}, "hidden states", at::kFloat);
        const Tensor weight_BSD = normal_tensor({2, 7, 8}, "weight of the outputs", at::kFloat);
        const auto run = [&](const auto& forward) {
          const Tensor leaf = x_BSD.clone().set_requires_grad(true);
          const Tensor y = forward(leaf);
          torch::autograd::backward({y}, {weight_BSD});
          return std::pair{y.detach(), leaf.grad()};
        };
        const AttentionContext context = context_of(model, 7);
        const auto [y, dx] =
            run([&](const Tensor& x) { return sample.attention.forward(x, context, nullptr); });
        const auto [expected, expected_dx] =
            run([&](const Tensor& x) { return reference.forward(x, context); });
        EXPECT_TRUE(near(y, expected, 1e-5));
        EXPECT_TRUE(near(dx, expected_dx, 1e-5));
        for (const PlacedPart& placed : sample.store.parts()) {
          const std::string name = placed.part.name.substr(std::string("attention.").size());
          EXPECT_TRUE(
              near(sample.store.gradient_of(placed), reference.leaves().at(name).grad(), 2e-5))
              << name;
        }
      }
    }
  }
}

TEST(AttentionTest, OnlyOnePositionMayFollowAFilledCache) {
  const ModelConfig model = small_model();
  const SampleAttention sample(model);
  LayerCache cache;
  const Tensor x_BSD = normal_tensor({1, 3, 8}, "hidden states", at::kFloat);
  sample.attention.forward(x_BSD, context_of(model, 3), &cache);
  EXPECT_EQ(cache.keys.sizes(), (std::vector<int64_t>{1, 2, 3, 4}));
  EXPECT_THROW(sample.attention.forward(x_BSD, context_of(model, 3), &cache), c10::Error);
}

}  // namespace
}  // namespace switchyard
