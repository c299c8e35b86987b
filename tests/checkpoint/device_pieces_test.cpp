#include "checkpoint/device_pieces.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>

#include "checkpoint/tensor_source.h"
#include "support/host_device.h"

namespace switchyard {
namespace {

using at::Tensor;

/// Three and a half pieces of float32.
Tensor numbers() { return at::arange(kDevicePieceBytes / 4 * 7 / 2, at::kFloat); }

std::vector<uint64_t> visit(const Tensor& x, std::vector<char>& bytes) {
  std::vector<uint64_t> sizes;
  for_each_piece(x, [&](const void* data, uint64_t size) {
    const auto* begin = static_cast<const char*>(data);
    bytes.insert(bytes.end(), begin, begin + size);
    sizes.push_back(size);
  });
  return sizes;
}

TEST(DevicePiecesTest, AreTheBytesInOrderAndNeverMoreThanAPiece) {
  const Tensor x = numbers();
  std::vector<char> bytes;
  const std::vector<uint64_t> sizes = visit(x.to(host_device()), bytes);
  EXPECT_EQ(sizes, (std::vector<uint64_t>{kDevicePieceBytes, kDevicePieceBytes, kDevicePieceBytes,
                                          kDevicePieceBytes / 2}));
  ASSERT_EQ(bytes.size(), x.nbytes());
  EXPECT_EQ(std::memcmp(bytes.data(), x.data_ptr(), bytes.size()), 0);
}

TEST(DevicePiecesTest, OfTheHostThereIsOneWhereItIs) {
  const Tensor x = numbers();
  int visits = 0;
  for_each_piece(x, [&](const void* data, uint64_t bytes) {
    EXPECT_EQ(data, x.data_ptr());
    EXPECT_EQ(bytes, x.nbytes());
    ++visits;
  });
  EXPECT_EQ(visits, 1);
}

TEST(DevicePiecesTest, OfNothingThereIsNone) {
  for (const c10::Device device : {c10::Device(at::kCPU), host_device()}) {
    for_each_piece(at::empty({0}, device), [](const void*, uint64_t) { ADD_FAILURE(); });
  }
}

TEST(DevicePiecesTest, RefusesWhatDoesNotLieInOnePiece) {
  EXPECT_THROW(for_each_piece(at::ones({2, 3}).t(), [](const void*, uint64_t) {}), c10::Error);
}

/// One tensor, "x", of float32.
class OneTensor : public TensorSource {
 public:
  explicit OneTensor(Tensor x) : x_(std::move(x)), infos_{{"x", {x_.numel()}, "F32", "dense"}} {}
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  void read(const TensorInfo& /*tensor*/, Interval range, void* out) override {
    std::memcpy(out, x_.data_ptr<float>() + range.begin, range.size() * sizeof(float));
  }
  const std::string& path() const override { return path_; }

 private:
  Tensor x_;
  std::vector<TensorInfo> infos_;
  std::string path_ = "memory";
};

TEST(TensorSourceTest, ReadsIntoTheMemoryOfADevice) {
  const Tensor x = numbers();
  OneTensor source(x);
  const Interval range{3, x.numel() - 5};
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const Tensor out = at::empty({range.size()}, at::TensorOptions(host_device()).dtype(dtype));
    source.read_into("x", range, out);
    EXPECT_TRUE(at::equal(out.cpu(), x.narrow(0, range.begin, range.size()).to(dtype)));
  }
}

}  // namespace
}  // namespace switchyard
