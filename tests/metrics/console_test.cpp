#include "metrics/console.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace switchyard {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

StepMetrics example() {
  StepMetrics metrics;
  metrics.step = 120;
  metrics.loss = 3.21452;
  metrics.aux_loss = 1.0101;
  metrics.z_loss = 0.4242;
  metrics.grad_norm = 0.8712;
  metrics.lr = 3e-4;
  metrics.step_ms = 213.6;
  metrics.tokens_per_second = 9570.3;
  metrics.mfu = 0.3121;
  metrics.peak_rss_bytes = 1288490188;
  metrics.moe = {MoeLayerMetrics{0, 1.05, 0.0, 2.0, {}}, MoeLayerMetrics{1, 1.18, 0.0, 2.0, {}}};
  return metrics;
}

TEST(ConsoleTest, TheStepLineIsTheOneOfTheContract) {
  EXPECT_EQ(step_line(example(), 1000, Colour::kOff),
            "step 120/1000 | loss 3.2145 | aux 1.01 z 0.42 | norm 0.87 | lr 3.0e-04 | 214 ms | "
            "9,570 tok/s | mfu 31% | mem 1.2 GiB | load 1.18 drop 0.0% | eta 3m08s");
}

TEST(ConsoleTest, OnlyWhatStandsOutIsMarked) {
  StepMetrics metrics = example();
  metrics.loss_z = 6.24;
  metrics.grad_norm_z = -3.99;
  const std::string line = step_line(metrics, 1000, Colour::kOff);
  EXPECT_NE(line.find("| loss 3.2145 (+6.2z) | aux"), std::string::npos) << line;
  EXPECT_NE(line.find("| norm 0.87 | lr"), std::string::npos) << line;
  metrics.grad_norm_z = -4.0;
  EXPECT_NE(step_line(metrics, 1000, Colour::kOff).find("| norm 0.87 (-4.0z) | lr"),
            std::string::npos);
  metrics.loss_z = metrics.grad_norm_z = std::numeric_limits<double>::infinity();
  EXPECT_EQ(step_line(metrics, 1000, Colour::kOff), step_line(example(), 1000, Colour::kOff));
}

TEST(ConsoleTest, TheBarFitsTheTerminal) {
  const StepProgress progress{140, 400, 213.6};
  EXPECT_EQ(progress_bar(progress, 62),
            "[=======>             ]  35% | step 140/400 | 214 ms | eta 56s");
  for (const int64_t width : {0, 1, 10, 40, 60, 80, 300}) {
    EXPECT_LE(static_cast<int64_t>(progress_bar(progress, width).size()), width) << width;
  }
  EXPECT_EQ(progress_bar({400, 400, 214}, 51),
            "[===========] 100% | step 400/400 | 214 ms | eta 0s");
  EXPECT_EQ(progress_bar({0, 0, 0}, 36), "  0% | step 0/0 | 0 ms | eta 0s");
}

TEST(ConsoleTest, ADenseModelHasNoRoutingAndAnUnknownPeakNoMfu) {
  StepMetrics metrics = example();
  metrics.moe.clear();
  metrics.mfu = kNaN;
  EXPECT_EQ(step_line(metrics, 120, Colour::kOff),
            "step 120/120 | loss 3.2145 | norm 0.87 | lr 3.0e-04 | 214 ms | 9,570 tok/s | "
            "mem 1.2 GiB | eta 0s");
}

TEST(ConsoleTest, LoadIsTheWorstLayersAndDropTheMeanOverLayers) {
  StepMetrics metrics = example();
  metrics.moe[0].dropped = 0.05;
  metrics.moe[1].dropped = 0.03;
  EXPECT_NE(step_line(metrics, 1000, Colour::kOff).find("| load 1.18 drop 4.0% |"),
            std::string::npos);
}

TEST(ConsoleTest, ASkippedStepIsSaid) {
  StepMetrics metrics = example();
  metrics.grad_norm = kNaN;
  metrics.skipped_steps = 2;
  const std::string line = step_line(metrics, 1000, Colour::kOff);
  EXPECT_NE(line.find("| norm nan |"), std::string::npos) << line;
  EXPECT_NE(line.find("| skipped 2 | eta"), std::string::npos) << line;
}

TEST(ConsoleTest, ColoursOnlyWhenAskedAndTheyOnlyAdd) {
  StepMetrics metrics = example();
  metrics.moe[0].dropped = 0.05;
  metrics.skipped_steps = 1;
  const std::string plain = step_line(metrics, 1000, Colour::kOff);
  std::string coloured = step_line(metrics, 1000, Colour::kOn);
  EXPECT_EQ(plain.find('\033'), std::string::npos);
  EXPECT_NE(coloured.find("\033[31mdrop 2.5%\033[0m"), std::string::npos) << coloured;
  for (size_t at; (at = coloured.find('\033')) != std::string::npos;) {
    coloured.erase(at, coloured.find('m', at) - at + 1);
  }
  EXPECT_EQ(coloured, plain);
}

TEST(ConsoleTest, TheEvalLineNamesItsSplit) {
  EvalMetrics metrics{100, "val", std::log(22.0), 1.921, 4096};
  EXPECT_EQ(eval_line(metrics, 400, Colour::kOff),
            "eval val 100/400 | loss 3.0910 | ppl 22.00 | bits/byte 1.9210");
  metrics.bits_per_byte.reset();
  EXPECT_EQ(eval_line(metrics, 400, Colour::kOff), "eval val 100/400 | loss 3.0910 | ppl 22.00");
}

TEST(ConsoleTest, NumbersAreGroupedByThousands) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1000), "1,000");
  EXPECT_EQ(grouped(12345678), "12,345,678");
  EXPECT_EQ(grouped(-123456), "-123,456");
}

TEST(ConsoleTest, DurationsHaveAtMostTwoUnits) {
  EXPECT_EQ(duration_text(0.4), "0s");
  EXPECT_EQ(duration_text(59.4), "59s");
  EXPECT_EQ(duration_text(188), "3m08s");
  EXPECT_EQ(duration_text(3599.6), "1h00m");
  EXPECT_EQ(duration_text(2 * 86400 + 3 * 3600 + 100), "2d03h");
  EXPECT_EQ(duration_text(kNaN), "-");
}

TEST(ConsoleTest, BytesUseBinaryUnits) {
  EXPECT_EQ(bytes_text(512), "512 B");
  EXPECT_EQ(bytes_text(1536), "1.5 KiB");
  EXPECT_EQ(bytes_text(int64_t{214} << 20), "214.0 MiB");
  EXPECT_EQ(bytes_text(int64_t{5} << 40), "5.0 TiB");
}

}  // namespace
}  // namespace switchyard
