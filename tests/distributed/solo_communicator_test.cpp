#include "distributed/solo_communicator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "distributed/runtime.h"

namespace switchyard {
namespace {

using at::Tensor;

TEST(SoloCommunicatorTest, EveryCollectiveIsTheIdentity) {
  const auto solo = make_solo_communicator("world");
  EXPECT_EQ(solo->rank(), 0);
  EXPECT_EQ(solo->size(), 1);
  EXPECT_EQ(solo->name(), "world");
  const Tensor values = at::arange(6, at::kFloat);
  Tensor x = values.clone();
  solo->all_reduce(x, ReduceOp::kSum, "sum");
  solo->all_reduce(x, ReduceOp::kMax, "maximum");
  solo->broadcast(x, /*root=*/0, "broadcast");
  solo->barrier("barrier");
  EXPECT_TRUE(at::equal(x, values));
  Tensor y = at::zeros({6});
  solo->reduce_scatter(x, y, "reduce-scatter");
  EXPECT_TRUE(at::equal(y, values));
  y.zero_();
  solo->reduce_scatter_uneven(x, {6}, y, "uneven reduce-scatter");
  EXPECT_TRUE(at::equal(y, values));
  EXPECT_THROW(solo->reduce_scatter_uneven(x, {5}, y, "short"), c10::Error);
  Tensor z = at::zeros({6});
  solo->all_gather(x, z, "all-gather");
  EXPECT_TRUE(at::equal(z, values));
  solo->reduce_scatter(x, x, "in place");
  solo->all_gather(x, x, "in place");
  EXPECT_TRUE(at::equal(x, values));
}

TEST(SoloCommunicatorTest, AllRowsStayHere) {
  const auto solo = make_solo_communicator("expert parallel");
  const Tensor rows = at::arange(6, at::kFloat).view({3, 2});
  EXPECT_TRUE(at::equal(solo->all_to_all(rows, {3}, {3}, "exchange"), rows));
  EXPECT_EQ(solo->all_to_all(rows.narrow(0, 0, 0), {0}, {0}, "exchange").size(0), 0);
  EXPECT_THROW(solo->all_to_all(rows, {2}, {2}, "exchange"), c10::Error);
  EXPECT_THROW(solo->all_to_all(rows, {3}, {2}, "exchange"), c10::Error);
  EXPECT_THROW(solo->all_to_all(rows, {3, 0}, {3, 0}, "exchange"), c10::Error);
}

TEST(SoloCommunicatorTest, TextsComeBack) {
  const auto solo = make_solo_communicator("world");
  EXPECT_EQ(broadcast_text(*solo, "", 0, "text"), "");
  EXPECT_EQ(broadcast_text(*solo, "text", 0, "text"), "text");
  EXPECT_EQ(all_gather_text(*solo, "", "text"), std::vector<std::string>{""});
  EXPECT_EQ(all_gather_text(*solo, "text", "text"), std::vector<std::string>{"text"});
}

TEST(SoloRuntimeTest, AProcessThatNobodyLaunchedIsAWorldOfOne) {
  int argc = 0;
  char** argv = nullptr;
  const Runtime runtime(argc, argv);
  EXPECT_EQ(runtime.rank(), 0);
  EXPECT_EQ(runtime.world_size(), 1);
  EXPECT_EQ(runtime.local_size(), 1);
  const Mesh mesh = runtime.make_mesh({});
  EXPECT_EQ(mesh.world->size(), 1);
  EXPECT_EQ(mesh.expert_size(), 1);
  EXPECT_EQ(mesh.data->size(), 1);
  EXPECT_THROW(runtime.make_mesh({2, "expert_inner"}), ConfigError);
}

}  // namespace
}  // namespace switchyard
