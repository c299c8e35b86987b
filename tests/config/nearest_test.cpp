#include "config/nearest.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(Nearest, CountsTypingMistakes) {
  EXPECT_EQ(edit_distance("steps", "steps"), 0u);
  EXPECT_EQ(edit_distance("step", "steps"), 1u);
  EXPECT_EQ(edit_distance("setps", "steps"), 1u);
  EXPECT_EQ(edit_distance("hiden_sise", "hidden_size"), 2u);
  EXPECT_EQ(edit_distance("Top-K", "top_k"), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
}

TEST(Nearest, TakesTheBeginningOfAWordForTheWord) {
  EXPECT_EQ(edit_distance("optimizer", "optim"), 2u);
  EXPECT_EQ(edit_distance("lrs_and_more", "lr"), 10u);
}

TEST(Nearest, FindsTheFirstOfTheNearest) {
  EXPECT_EQ(nearest("swiglo", {"swiglu", "geglu", "gelu"}), "swiglu");
  EXPECT_EQ(nearest("gelo", {"swiglu", "geglu", "gelu"}), "gelu");
  EXPECT_EQ(nearest("tanh", {"swiglu", "geglu", "gelu"}), "");
}

TEST(Nearest, SurvivesVeryLongWords) {
  EXPECT_EQ(nearest(std::string(1000000, 'x'), {"swiglu"}), "");
}

}  // namespace
}  // namespace switchyard
