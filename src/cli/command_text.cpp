#include "cli/command_text.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cctype>
#include <sstream>

#include "base/wrap.h"

namespace switchyard {
namespace {

constexpr size_t kWidth = 96;
constexpr size_t kTexts = 28;  // column of the meanings

const char* const kExample = "Example: ";
constexpr char kGlue = '\1';

bool is_listed(const CLI::App& command) { return !command.get_group().empty(); }

/// Ended by a full stop.
std::string sentence(std::string text) {
  if (!text.empty() && text.back() != '.' && text.back() != ':') text += '.';
  return text;
}

std::string meaning(const CLI::Option& option) {
  std::string text = sentence(option.get_description());
  const auto append = [&](const std::string& more) { text += (text.empty() ? "" : " ") + more; };
  if (option.get_required()) append("Required.");
  if (!option.get_default_str().empty()) append("Default: " + sentence(option.get_default_str()));
  return text;
}

std::string upper(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::toupper(c); });
  return text;
}

FlagText text_of(const CLI::Option& option) {
  FlagText flag;
  flag.meaning = meaning(option);
  flag.repeats = option.get_items_expected_max() > 1;
  if (option.get_positional()) {
    // CLI11's own TEXT says less than the argument's name.
    const std::string type = option.get_type_name();
    flag.value = type == "TEXT" ? upper(option.get_name(/*positional=*/true)) : type;
    return flag;
  }
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  flag.name = CLI::detail::join(names, ", ");
  if (option.get_items_expected_max() > 0) flag.value = option.get_type_name();
  return flag;
}

/// `head`, and beside or below it the text.
std::string entry(const std::string& head, const std::string& text) {
  std::string lines = text.empty() ? "" : wrap(text, kTexts, kWidth);
  std::string start = "  " + head;
  if (start.size() + 2 > kTexts || lines.empty()) return start + "\n" + lines;
  return lines.replace(0, start.size(), start);
}

std::string flag_entries(const CLI::App& command) {
  std::string arguments, options;
  for (const FlagText& flag : flags_of(command)) {
    (flag.name.empty() ? arguments : options) += entry(flag.usage(), flag.meaning);
  }
  if (!arguments.empty()) arguments = "\nArguments:\n" + arguments;
  return arguments + "\nOptions:\n" + options;
}

std::string command_entries(const CLI::App& program) {
  std::string text;
  for (const std::string& group : command_groups(program)) {
    text += "\n" + group + ":\n";
    for (const CLI::App* command : listed_commands(program)) {
      if (command->get_group() != group) continue;
      text += entry(command->get_name(), sentence(command->get_description()));
    }
  }
  return text;
}

std::string example_entries(const CLI::App& command) {
  const std::vector<std::string> examples = examples_of(command);
  std::string text = examples.empty() ? "" : "\nExamples:\n";
  for (const std::string& example : examples) text += example_lines(example, 2, kWidth);
  return text;
}

/// With kGlue for the spaces at which no line may end: in quotes, and before a flag's value.
std::string glued(std::string command) {
  bool in_quotes = false, after_flag = false;
  size_t word = 0;
  for (size_t i = 0; i < command.size(); ++i) {
    if (command[i] == '"') in_quotes = !in_quotes;
    if (command[i] != ' ') continue;
    after_flag = command[word] == '-';
    word = i + 1;
    if (in_quotes || (after_flag && command[word] != '-')) command[i] = kGlue;
  }
  return command;
}

std::string paragraphs(const std::string& text) {
  std::string result;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) result += wrap(line, 0, kWidth);
  return result;
}

}  // namespace

std::vector<std::string> FlagText::words() const {
  std::vector<std::string> words;
  if (value.find('|') == std::string::npos) return words;
  for (std::string word : CLI::detail::split(value, '|')) {
    word.erase(std::ranges::find_if(word, [](unsigned char c) { return std::isupper(c); }),
               word.end());
    if (!word.empty()) words.push_back(word);
  }
  return words;
}

bool FlagText::takes_path() const {
  static constexpr std::array kPaths = {"FILE",        "FOLDER", "CHECKPOINT",
                                        "CONFIG.yaml", "RUN",    "TEXT"};
  const std::vector<std::string> kinds = CLI::detail::split(value, '|');
  return std::ranges::any_of(kPaths,
                             [&](const char* path) { return std::ranges::count(kinds, path) > 0; });
}

std::string FlagText::usage() const {
  std::string text = name;
  if (!value.empty()) text += (text.empty() ? "" : " ") + value;
  return repeats && !value.empty() ? text + "..." : text;
}

std::vector<FlagText> flags_of(const CLI::App& command) {
  std::vector<FlagText> flags;
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_group().empty()) flags.push_back(text_of(*option));
  }
  std::ranges::stable_partition(flags, [](const FlagText& flag) { return flag.name.empty(); });
  // CLI11 declares --help first; it is read last.
  const auto help =
      std::ranges::find_if(flags, [](const FlagText& f) { return f.name.ends_with("--help"); });
  if (help != flags.end()) std::rotate(help, help + 1, flags.end());
  return flags;
}

std::vector<const CLI::App*> listed_commands(const CLI::App& program) {
  std::vector<const CLI::App*> commands;
  for (const std::string& group : command_groups(program)) {
    for (const CLI::App* command : program.get_subcommands(nullptr)) {
      if (command->get_group() == group) commands.push_back(command);
    }
  }
  return commands;
}

std::vector<std::string> command_groups(const CLI::App& program) {
  std::vector<std::string> groups;
  for (const CLI::App* command : program.get_subcommands(nullptr)) {
    const std::string& group = command->get_group();
    if (is_listed(*command) && !std::ranges::count(groups, group)) groups.push_back(group);
  }
  return groups;
}

std::string synopsis(const CLI::App& command) {
  if (command.get_parent() == nullptr) return command.get_name() + " COMMAND [OPTION]...";
  std::string text = command.get_parent()->get_name() + " " + command.get_name();
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_positional()) continue;
    const std::string usage = text_of(*option).usage();
    text += option->get_required() ? " " + usage : " [" + usage + "]";
  }
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_positional() || !option->get_required()) continue;
    text += " " + text_of(*option).usage();
  }
  return text + " [OPTION]...";
}

std::string remarks_of(const CLI::App& command) {
  std::string remarks;
  std::istringstream lines(command.get_footer());
  for (std::string line; std::getline(lines, line);) {
    line = line.substr(0, line.find(kExample));
    if (!line.empty()) remarks += line + "\n";
  }
  return remarks;
}

std::vector<std::string> examples_of(const CLI::App& command) {
  std::vector<std::string> examples;
  std::istringstream lines(command.get_footer());
  for (std::string line; std::getline(lines, line);) {
    const size_t at = line.find(kExample);
    if (at != std::string::npos) examples.push_back(line.substr(at + std::string(kExample).size()));
  }
  return examples;
}

std::string example_lines(const std::string& example, size_t indent, size_t width) {
  std::string lines = wrap(glued(example), indent + 4, width - 2);
  std::ranges::replace(lines, kGlue, ' ');
  lines.erase(0, 4);
  for (size_t at = lines.find('\n'); at + 1 < lines.size(); at = lines.find('\n', at + 3)) {
    lines.insert(at, " \\");
  }
  return lines;
}

std::string help_text(const CLI::App& command) {
  const bool whole = command.get_parent() == nullptr;
  std::string text = wrap("Usage: " + synopsis(command), 0, kWidth) + "\n" +
                     wrap(sentence(command.get_description()), 0, kWidth);
  if (whole) text += command_entries(command);
  text += flag_entries(command) + example_entries(command);
  const std::string remarks = paragraphs(remarks_of(command));
  return remarks.empty() ? text : text + "\n" + remarks;
}

}  // namespace switchyard
