#include "distributed/raw_all_to_all.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/mpi_main.h"

namespace switchyard {
namespace {

TEST(RawAllToAll, PiecesGoToTheirRanks) {
  const int rank = test_runtime().rank(), W = test_runtime().world_size();
  const at::Tensor input = at::arange(W, at::kLong).unsqueeze(1).repeat({1, 3}) + 100 * rank;
  at::Tensor output = at::zeros_like(input);
  raw_all_to_all(input.contiguous(), output);
  const at::Tensor expected = 100 * at::arange(W, at::kLong).unsqueeze(1).repeat({1, 3}) + rank;
  EXPECT_TRUE(at::equal(output, expected));
}

TEST(RawAllToAll, RefusesBuffersOfDifferentSizes) {
  at::Tensor output = at::zeros({test_runtime().world_size() + 1});
  EXPECT_THROW(raw_all_to_all(at::zeros({test_runtime().world_size()}), output), c10::Error);
}

}  // namespace
}  // namespace switchyard
