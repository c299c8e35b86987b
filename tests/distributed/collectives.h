#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <tuple>

#include "distributed/communicator.h"

namespace switchyard {

/// A way for tensors to travel, to be held to what communicator.h promises: the tests of
/// collectives.cpp are for all of them. Instantiate `CollectiveTest` and `TransportTest`.
struct Transport {
  std::string name;
  std::function<std::unique_ptr<Communicator>()> make_world;
  std::function<c10::Device()> device = [] { return c10::Device(c10::kCPU); };  // of the tensors
  std::function<void()> begin = [] {}, end = [] {};  // of each test, which `begin` may skip

  friend void PrintTo(const Transport& transport, std::ostream* out) { *out << transport.name; }
};

/// All ranks of the job, and values that every dtype holds exactly, in any order of summation.
class CollectiveTest : public testing::TestWithParam<std::tuple<at::ScalarType, Transport>> {
 protected:
  void SetUp() override;
  void TearDown() override;

  at::Tensor from_values(const std::vector<int64_t>& values) const;
  /// `count` values, the i-th being value(i).
  at::Tensor make_values(int64_t count, const std::function<int64_t(int64_t)>& value) const;
  at::Tensor zeros(int64_t count) const;
  bool has_sign() const { return dtype_ != at::kByte; }

  const at::ScalarType dtype_ = std::get<0>(GetParam());
  const Transport transport_ = std::get<1>(GetParam());
  std::unique_ptr<Communicator> world_;
  int rank_ = 0, size_ = 1;
};

class TransportTest : public testing::TestWithParam<Transport> {
 protected:
  void SetUp() override { GetParam().begin(); }
  void TearDown() override { GetParam().end(); }
  at::Tensor here(const at::Tensor& x) const { return x.to(GetParam().device()); }
};

/// For INSTANTIATE_TEST_SUITE_P: "FloatNccl".
std::string name_of_collective(const testing::TestParamInfo<CollectiveTest::ParamType>& info);
std::string name_of_transport(const testing::TestParamInfo<Transport>& info);

/// float32, bfloat16, float64, int32, int64, uint8.
std::vector<at::ScalarType> travelling_dtypes();

/// What a rank sends, blocks in order, and what it gets from ranks that do the same: blocks for
/// their places, block b of all ranks before block b + 1 of any, as rows for experts stand.
struct PlacedBlocks {
  RowBlocks send, recv;
  at::Tensor sent, received;  // int64, on the host
};
PlacedBlocks make_placed_blocks(const Communicator& world, int64_t blocks);

/// Rows that rank `from` sends to `to` in block b of `make_placed_blocks`.
int64_t placed_rows(int from, int to, int64_t b);

}  // namespace switchyard
