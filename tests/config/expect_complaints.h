#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "config_folder.h"

namespace switchyard {

/// A config and what is said of it on a world of that size; "": nothing.
struct Wrong {
  std::string yaml;
  int world_size;
  std::string message;
};

inline void expect_all(const std::vector<Wrong>& cases) {
  for (const Wrong& wrong : cases) {
    EXPECT_EQ(complaint(wrong.yaml, {}, wrong.world_size), wrong.message) << wrong.yaml;
  }
}

}  // namespace switchyard
