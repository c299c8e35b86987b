#include "ops/embedding.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/tensors.h"

namespace switchyard {
namespace {

using at::Tensor;

const std::vector<int64_t> kTokens = {3, 0, 3, 4, 3, 1};

TEST(EmbeddingTest, EqualsAtEmbeddingInEveryDtype) {
  const Tensor tokens_BS = at::tensor(kTokens, at::kLong).view({2, 3});
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    Tensor w = normal_tensor({5, 130}, "w", dtype).set_requires_grad(true);
    Tensor exact = w.detach().to(at::kDouble).set_requires_grad(true);
    const Tensor y = embed_tokens(w, tokens_BS), expected = at::embedding(exact, tokens_BS);
    EXPECT_TRUE(same(y, expected.to(dtype)));
    const Tensor dy = normal_tensor({2, 3, 130}, "dy", dtype);
    y.backward(dy);
    expected.backward(dy.to(at::kDouble));
    EXPECT_TRUE(near(w.grad(), exact.grad().to(dtype), dtype == at::kBFloat16 ? 0x1.0p-8 : 1e-6));
  }
}

TEST(EmbeddingTest, TheGradientIsAddedInPlaceInFloat32) {
  Tensor w = at::zeros({5, 2}, at::kBFloat16).set_requires_grad(true);
  const Tensor home = at::ones({5, 2});
  w.mutable_grad() = home;
  embed_tokens(w, at::tensor(kTokens, at::kLong)).sum().backward();
  EXPECT_EQ(w.grad().data_ptr(), home.data_ptr());
  EXPECT_TRUE(same(home.select(1, 0), at::tensor({2.0, 2.0, 1.0, 4.0, 2.0}, at::kFloat)));
}

}  // namespace
}  // namespace switchyard
