#include "checkpoint/step_folder.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <functional>
#include <random>

#include "base/checksum.h"
#include "base/error.h"
#include "base/file.h"
#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/verify_checkpoint.h"

namespace switchyard {
namespace {

constexpr std::string_view kTemporary = ".tmp-";
constexpr size_t kSaveIdDigits = 32;

/// What is wrong with a step folder; nothing when it is whole.
using Check = std::function<std::vector<std::string>(const std::string& step_dir)>;

std::string newest_that_passes(const std::string& checkpoints_dir,
                               const std::vector<int64_t>& steps, const Check& check,
                               std::vector<std::string>* complaints) {
  std::string all;
  for (const int64_t step : steps) {
    const std::string folder = checkpoints_dir + "/" + step_folder_name(step);
    const std::vector<std::string> problems = check(folder);
    if (problems.empty()) return folder;
    for (const std::string& problem : problems) {
      all += "\n  " + problem;
      if (complaints != nullptr) complaints->push_back(problem);
    }
  }
  if (steps.empty()) return "";
  throw DataError(
      "no whole checkpoint could be read in " + checkpoints_dir +
      "; mend the disk or bring back a copy, or move them away to start from scratch:" + all);
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

/// Of every rank the first problem, unless a lower rank has told it already.
std::vector<std::string> check_together(Communicator& world, const std::string& step_dir) {
  const std::string mine = joined(verify_checkpoint(step_dir, world.rank(), world.size()));
  std::vector<std::string> told, problems;
  const std::vector<std::string> all = all_gather_text(world, mine, "verifying a checkpoint");
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const std::string first = all[rank].substr(0, all[rank].find('\n'));
    if (first.empty() || std::ranges::count(told, first) > 0) continue;
    told.push_back(first);
    problems.push_back("rank " + std::to_string(rank) + ": " + first);
  }
  return problems;
}

std::vector<int64_t> parse_steps(const std::string& text) {
  std::vector<int64_t> steps;
  for (const char *at = text.data(), *end = at + text.size(); at < end; ++at) {
    at = std::from_chars(at, end, steps.emplace_back()).ptr;
  }
  return steps;
}

/// list_steps on rank 0, for all; "!" and why when it cannot.
std::string steps_text(const std::string& checkpoints_dir) {
  try {
    std::string text;
    for (const int64_t step : list_steps(checkpoints_dir)) text += std::to_string(step) + " ";
    return text;
  } catch (const std::exception& error) {
    return "!" + std::string(error.what());
  }
}

bool opens(const std::string& step_dir) {
  try {
    CheckpointReader reader(step_dir);
    return true;
  } catch (const DataError&) {
    return false;
  }
}

/// The folder that `latest` names, "" when it names none.
std::string published(const std::string& checkpoints_dir) {
  const std::string pointer = checkpoints_dir + "/latest";
  if (!path_exists(pointer)) return "";
  std::string name = read_file(pointer, /*max_bytes=*/256);
  if (name.ends_with('\n')) name.pop_back();
  if (!parse_step_folder_name(name)) return "";
  const std::string folder = checkpoints_dir + "/" + name;
  return is_folder(folder) ? folder : "";
}

/// The folder that stands for the run, "" when there is none.
std::string current_checkpoint(const std::string& checkpoints_dir, Damaged damaged) {
  const std::string folder = published(checkpoints_dir);
  if (damaged == Damaged::kPassOver) {
    return !folder.empty() && opens(folder) ? folder
                                            : newest_valid(checkpoints_dir, /*complaints=*/nullptr);
  }
  const std::vector<int64_t> steps = list_steps(checkpoints_dir);
  if (!folder.empty() || steps.empty()) return folder;
  return checkpoints_dir + "/" + step_folder_name(steps.front());
}

std::string without_trailing_slashes(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

}  // namespace

std::string step_folder_name(int64_t step) {
  char name[64];
  std::snprintf(name, sizeof(name), "step-%08lld", static_cast<long long>(step));
  return name;
}

std::optional<int64_t> parse_step_folder_name(std::string_view name) {
  constexpr std::string_view kPrefix = "step-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const std::string_view digits = name.substr(kPrefix.size());
  int64_t step = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (error != std::errc() || step < 0 || step_folder_name(step) != name) return std::nullopt;
  return step;
}

bool is_temporary_name(std::string_view name) {
  const size_t at = name.find(kTemporary);
  if (at == std::string_view::npos || !parse_step_folder_name(name.substr(0, at))) return false;
  const std::string_view id = name.substr(at + kTemporary.size());
  return id.size() == kSaveIdDigits &&
         id.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string random_save_id() {
  std::random_device entropy;
  std::string id;
  while (id.size() < kSaveIdDigits) id += digest_text(uint64_t{entropy()} << 32 | entropy());
  return id;
}

std::vector<int64_t> list_steps(const std::string& checkpoints_dir) {
  std::vector<int64_t> steps;
  if (!path_exists(checkpoints_dir)) return steps;
  for (const std::string& name : list_folder(checkpoints_dir)) {
    if (const std::optional<int64_t> step = parse_step_folder_name(name)) steps.push_back(*step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

std::string newest_valid(const std::string& checkpoints_dir, std::vector<std::string>* complaints) {
  const auto check = [](const std::string& step_dir) { return verify_checkpoint(step_dir); };
  return newest_that_passes(checkpoints_dir, list_steps(checkpoints_dir), check, complaints);
}

std::string newest_valid(Communicator& world, const std::string& checkpoints_dir,
                         std::vector<std::string>* complaints) {
  const std::string mine = world.rank() == 0 ? steps_text(checkpoints_dir) : "";
  const std::string steps = broadcast_text(world, mine, /*root=*/0, "steps that have a checkpoint");
  if (steps.starts_with('!')) throw DataError(steps.substr(1));
  const auto check = [&](const std::string& step_dir) { return check_together(world, step_dir); };
  return newest_that_passes(checkpoints_dir, parse_steps(steps), check, complaints);
}

void require_whole(Communicator& world, const std::string& step_dir) {
  const std::string problems = joined(check_together(world, step_dir));
  if (!problems.empty()) throw DataError(problems.substr(0, problems.size() - 1));
}

std::string resolve_checkpoint(const std::string& argument, Damaged damaged) {
  const std::string path = without_trailing_slashes(argument);
  const std::string name = path.substr(path.find_last_of('/') + 1);
  if (parse_step_folder_name(name) || path_exists(path + "/" + kManifestName)) {
    return path;
  }
  const std::string inside = path + "/checkpoints";
  const std::string checkpoints_dir = is_folder(inside) ? inside : path;
  std::string folder;
  if (is_folder(checkpoints_dir)) folder = current_checkpoint(checkpoints_dir, damaged);
  if (folder.empty()) {
    throw DataError("no checkpoint in " + argument +
                    ": neither a manifest.json nor a step-... folder, here or in checkpoints/");
  }
  return folder;
}

}  // namespace switchyard
