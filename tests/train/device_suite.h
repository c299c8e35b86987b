#pragma once

#include <c10/core/Device.h>
#include <gtest/gtest.h>

#include <functional>
#include <ostream>
#include <string>

#include "config/run_config.h"

namespace switchyard {

/// A device whose steps, checkpoints, evaluation and records are to be the CPU's: the tests of
/// device_suite.cpp are for all of them. Instantiate `DeviceTrainingTest`.
struct DeviceUnderTest {
  std::string name;
  std::function<c10::Device()> device;
  std::string gpu_transport;            // between several ranks
  double tolerance, state_tolerance;    // of float32, see expect_same_run
  std::function<void()> begin = [] {};  // of each test, which it may skip

  friend void PrintTo(const DeviceUnderTest& device, std::ostream* out) { *out << device.name; }
};

class DeviceTrainingTest : public testing::TestWithParam<DeviceUnderTest> {
 protected:
  void SetUp() override { GetParam().begin(); }
  static c10::Device device() { return GetParam().device(); }
  static RunConfig config_of_device();
  static void expect_same(const RunConfig& config);
};

}  // namespace switchyard
