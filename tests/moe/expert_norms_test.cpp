#include "moe/expert_norms.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "moe/sample_moe.h"
#include "support/mpi_main.h"
#include "support/tensors.h"

// Runs at W = 1, 2, 4, 8: the E experts are shared out to the ranks of the world.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kExperts = 8;

/// Norms of every expert for tokens of every rank, some without any.
TEST(ExpertNormsTest, P10_AllExpertsOnAllTokensWhereverTheyAre) {
  const Mesh solo = solo_mesh();
  const int W = test_runtime().world_size(), rank = test_runtime().rank();
  const Mesh mesh = test_runtime().make_mesh({W, "expert_inner"});
  for (const char* ffn : {"swiglu", "gelu"}) {
    ModelConfig model = sample_model();
    model.ffn = ffn;
    const SampleMoe whole(model, sample_moe_config(), solo);
    const SampleMoe moe(model, sample_moe_config(), mesh);
    const int64_t T = rank % 2 == 1 ? 0 : rank + 3;
    const Tensor x_TD = normal_tensor({T, 6}, "x of rank " + std::to_string(rank), at::kFloat);
    const Tensor norms_TE = expert_norms(moe.layer.experts(), x_TD, *mesh.expert);
    ASSERT_EQ(norms_TE.sizes(), (at::IntArrayRef{T, kExperts}));
    EXPECT_TRUE(same(norms_TE, whole.layer.experts().output_norms(x_TD)));
    for (int64_t e = 0; e < kExperts; ++e) {
      const auto weight = [&](const char* name) {
        return whole.weight("experts." + std::to_string(e) + name).detach();
      };
      Tensor hidden_TF = at::linear(x_TD, weight(".up_proj.weight"));
      hidden_TF = std::string(ffn) == "gelu"
                      ? at::gelu(hidden_TF)
                      : at::silu(at::linear(x_TD, weight(".gate_proj.weight"))) * hidden_TF;
      const Tensor y_TD = at::linear(hidden_TF, weight(".down_proj.weight"));
      EXPECT_TRUE(near(norms_TE.select(1, e), y_TD.norm(2, {1}, /*keepdim=*/false), 1e-5)) << e;
    }
  }
}

TEST(ExpertNormsTest, P10_AScaledExpertStandsOutAndEqualOnesAreEqual) {
  const Mesh solo = solo_mesh();
  MoeConfig config = sample_moe_config();
  config.expert_init = "identical";
  const SampleMoe moe(sample_model(), config, solo);
  const Tensor x_TD = normal_tensor({9, 6}, "x", at::kFloat);
  const Tensor before_TE = moe.layer.experts().output_norms(x_TD);
  EXPECT_TRUE(
      same(before_TE, before_TE.select(1, 0).unsqueeze(1).expand({9, kExperts}).contiguous()));
  {
    const c10::NoGradGuard no_grad;
    moe.weight("experts.3.down_proj.weight").mul_(4);
  }
  const Tensor after_TE = moe.layer.experts().output_norms(x_TD);
  EXPECT_TRUE(near(after_TE.select(1, 3), 4 * before_TE.select(1, 3), 1e-6));
  EXPECT_TRUE((after_TE.argmax(1) == 3).all().item<bool>());
}

TEST(ExpertsTest, MatricesAreTheNamedWeightsOneRowForEachNeuron) {
  const Mesh solo = solo_mesh();
  for (const char* ffn : {"swiglu", "relu"}) {
    ModelConfig model = sample_model();
    model.ffn = ffn;
    const SampleMoe moe(model, sample_moe_config(), solo);
    const std::vector<ExpertMatrix> matrices = moe.layer.experts().matrices();
    EXPECT_EQ(matrices.size(), std::string(ffn) == "relu" ? 2U : 3U);
    for (const ExpertMatrix& matrix : matrices) {
      const Tensor weight = moe.weight("experts.2." + matrix.name + ".weight").detach();
      EXPECT_TRUE(same(matrix.x_LFD[2].contiguous(),
                       matrix.name == "down_proj" ? weight.t().contiguous() : weight))
          << matrix.name;
    }
  }
}

}  // namespace
}  // namespace switchyard
