#include "metrics/console.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace switchyard {
namespace {

constexpr const char* kBold = "\033[1m";
constexpr const char* kRed = "\033[31m";
constexpr const char* kPlain = "\033[0m";

std::string number(const char* format, double value) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

std::string painted(const std::string& text, const char* paint, Colour colour) {
  return colour == Colour::kOn ? paint + text + kPlain : text;
}

std::string loss_text(double loss, Colour colour) {
  return "loss " + painted(number("%.4f", loss), std::isfinite(loss) ? kBold : kRed, colour);
}

/// " (+6.2z)" where it is much.
std::string mark(double z, Colour colour) {
  if (!(std::abs(z) >= kMarkedZ) || !std::isfinite(z)) return "";
  return " " + painted(number("(%+.1fz)", z), kRed, colour);
}

std::string of_steps(int64_t step, int64_t total_steps) {
  return std::to_string(step) + "/" + std::to_string(total_steps);
}

std::string routing_text(const std::vector<MoeLayerMetrics>& layers, Colour colour) {
  double worst_load = 0, dropped = 0;
  for (const MoeLayerMetrics& layer : layers) {
    worst_load = std::max(worst_load, layer.max_load);
    dropped += layer.dropped / static_cast<double>(layers.size());
  }
  const std::string drop = number("drop %.1f%%", 100 * dropped);
  return number("load %.2f ", worst_load) + (dropped > 0 ? painted(drop, kRed, colour) : drop);
}

std::string two_units(int64_t large, const char* large_unit, int64_t small,
                      const char* small_unit) {
  const std::string padding = small < 10 ? "0" : "";
  return std::to_string(large) + large_unit + padding + std::to_string(small) + small_unit;
}

}  // namespace

std::string step_line(const StepMetrics& metrics, int64_t total_steps, Colour colour) {
  std::string line = "step " + of_steps(metrics.step, total_steps);
  const auto add = [&line](const std::string& text) { line += " | " + text; };
  add(loss_text(metrics.loss, colour) + mark(metrics.loss_z, colour));
  if (!metrics.moe.empty()) {
    add(number("aux %.2f", metrics.aux_loss) + number(" z %.2f", metrics.z_loss));
  }
  const std::string norm = number("norm %.2f", metrics.grad_norm);
  add((std::isfinite(metrics.grad_norm) ? norm : painted(norm, kRed, colour)) +
      mark(metrics.grad_norm_z, colour));
  add(number("lr %.1e", metrics.lr));
  add(number("%.0f ms", metrics.step_ms));
  add(grouped(std::llround(metrics.tokens_per_second)) + " tok/s");
  if (std::isfinite(metrics.mfu)) add(number("mfu %.0f%%", 100 * metrics.mfu));
  add("mem " + bytes_text(metrics.peak_rss_bytes));
  if (!metrics.moe.empty()) add(routing_text(metrics.moe, colour));
  if (metrics.skipped_steps > 0) {
    add(painted("skipped " + grouped(metrics.skipped_steps), kRed, colour));
  }
  const double remaining_steps = static_cast<double>(total_steps - metrics.step);
  add("eta " + duration_text(remaining_steps * metrics.step_ms / 1000));
  return line;
}

std::string eval_line(const EvalMetrics& metrics, int64_t total_steps, Colour colour) {
  std::string line = "eval " + metrics.split + " " + of_steps(metrics.step, total_steps) + " | " +
                     loss_text(metrics.loss, colour) + number(" | ppl %.2f", metrics.perplexity());
  if (metrics.bits_per_byte) line += number(" | bits/byte %.4f", *metrics.bits_per_byte);
  return line;
}

std::string progress_bar(const StepProgress& progress, int64_t width) {
  constexpr int64_t kLongest = 40, kShortest = 5;
  const double share = static_cast<double>(progress.step) /
                       static_cast<double>(std::max<int64_t>(1, progress.total_steps));
  const double remaining_ms =
      static_cast<double>(progress.total_steps - progress.step) * progress.step_ms;
  const std::string text = number(" %3.0f%%", std::floor(100 * share)) + " | step " +
                           of_steps(progress.step, progress.total_steps) +
                           number(" | %.0f ms", progress.step_ms) + " | eta " +
                           duration_text(remaining_ms / 1000);
  const int64_t cells = std::min(kLongest, width - static_cast<int64_t>(text.size()) - 2);
  if (cells < kShortest) return text.substr(1, static_cast<size_t>(std::max<int64_t>(0, width)));
  const auto done = static_cast<size_t>(share * static_cast<double>(cells));
  std::string bar(done, '=');
  if (done < static_cast<size_t>(cells)) bar += '>';
  bar.resize(static_cast<size_t>(cells), ' ');
  return "[" + bar + "]" + text;
}

std::string grouped(int64_t value) {
  std::string text = std::to_string(value);
  const size_t first = value < 0 ? 1 : 0;
  for (size_t end = text.size(); end > first + 3; end -= 3) text.insert(end - 3, 1, ',');
  return text;
}

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds)) return "-";
  const int64_t total = std::llround(std::max(seconds, 0.0));
  if (total < 60) return std::to_string(total) + "s";
  if (total < 3600) return two_units(total / 60, "m", total % 60, "s");
  if (total < 86400) return two_units(total / 3600, "h", total / 60 % 60, "m");
  return two_units(total / 86400, "d", total / 3600 % 24, "h");
}

std::string bytes_text(int64_t bytes) {
  constexpr std::array<const char*, 4> kUnits = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return number("%.1f ", value) + kUnits[unit];
}

}  // namespace switchyard
