#include <gtest/gtest.h>

#include "optim/adamw.h"
#include "optim/gradients.h"
#include "optim/sample_model.h"
#include "support/host_device.h"

// A store whose buffers are on a device, against one on the host.

namespace switchyard {
namespace {

using at::Tensor;

void move_to_device(ParameterStore& store) {
  for (ParameterStore::Buffer& buffer : store.buffers()) {
    for (Tensor* x : {&buffer.weights, &buffer.gradients, &buffer.master, &buffer.exp_avg,
                      &buffer.exp_avg_sq}) {
      if (x->defined()) *x = x->to(host_device());
    }
  }
}

TEST(DeviceOptimTest, NormsAndUpdatesAreThoseOfTheHost) {
  const Mesh mesh = solo_mesh();
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    ParameterStore::Options options;
    options.dtype = dtype;
    SampleModel host(mesh, options), device(mesh, options);
    move_to_device(device.store);
    for (int64_t step = 1; step <= 3; ++step) {
      for (const ParameterKind kind : {ParameterKind::kDense, ParameterKind::kExpert}) {
        Tensor& gradients = host.store.buffer(kind).gradients;
        gradients.copy_(
            normal_tensor({gradients.numel()}, "gradient " + std::to_string(step), at::kFloat));
        device.store.buffer(kind).gradients.copy_(gradients);
      }
      const int64_t before = host_device_traffic().to_host;
      const GradientNorms norms = gradient_norms(device.store, *mesh.world),
                          expected = gradient_norms(host.store, *mesh.world);
      EXPECT_EQ(host_device_traffic().to_host - before, 1);
      EXPECT_DOUBLE_EQ(norms.total, expected.total);
      EXPECT_DOUBLE_EQ(norms.dense, expected.dense);
      EXPECT_DOUBLE_EQ(norms.expert, expected.expert);
      for (SampleModel* model : {&host, &device}) {
        AdamW{}.update(model->store, step, /*lr=*/1e-3, /*gradient_scale=*/0.5);
      }
      EXPECT_EQ(host_device_traffic().to_host - before, 1);
    }
    for (const ParameterKind kind : {ParameterKind::kDense, ParameterKind::kExpert}) {
      const ParameterStore::Buffer &there = device.store.buffer(kind),
                                   &here = host.store.buffer(kind);
      const double tolerance = dtype == at::kFloat ? 1e-6 : 0x1.0p-8;
      EXPECT_TRUE(near(there.weights.cpu(), here.weights, tolerance));
      EXPECT_TRUE(near(there.exp_avg.cpu(), here.exp_avg, 1e-6));
      EXPECT_TRUE(near(there.exp_avg_sq.cpu(), here.exp_avg_sq, 1e-6));
    }
  }
}

}  // namespace
}  // namespace switchyard
