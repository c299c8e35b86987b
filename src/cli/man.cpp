#include <CLI/CLI.hpp>
#include <memory>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "base/wrap.h"
#include "cli/command.h"
#include "cli/command_text.h"

// Man pages in the man(7) macros, out of what --help is made of.

namespace switchyard {
namespace {

constexpr size_t kWidth = 76;

/// A line of text as roff reads it.
std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '\\') {
      result += "\\e";
    } else if (c == '-') {
      result += "\\-";
    } else {
      result += c;
    }
  }
  return result.starts_with('.') || result.starts_with('\'') ? "\\&" + result : result;
}

/// A paragraph in short lines, each after `macro`.
std::string filled(const std::string& text, const std::string& macro = "") {
  std::string result;
  std::istringstream lines(wrap(text, 0, kWidth));
  for (std::string line; std::getline(lines, line);) result += macro + escaped(line) + "\n";
  return result;
}

std::string section(const std::string& title) { return ".SH " + title + "\n"; }

std::string entry(const std::string& head, const std::string& text) {
  return ".TP\n.B " + escaped(head) + "\n" + filled(text);
}

std::string head_of(const std::string& name, const std::string& description) {
  std::string title = name;
  for (char& c : title) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return ".\\\" Made by `switchyard man` out of the flags' own help.\n.TH " + title +
         " 1 \"\" \"switchyard " SWITCHYARD_VERSION "\" \"User Commands\"\n" + section("NAME") +
         filled(name + " - " + description);
}

std::string options(const CLI::App& command) {
  std::string text = section("OPTIONS");
  for (const FlagText& flag : flags_of(command)) text += entry(flag.usage(), flag.meaning);
  return text;
}

std::string examples(const CLI::App& command) {
  const std::vector<std::string> all = examples_of(command);
  if (all.empty()) return "";
  std::string text = section("EXAMPLES") + ".nf\n";
  for (const std::string& example : all) {
    std::istringstream lines(example_lines(example, 0, kWidth));
    for (std::string line; std::getline(lines, line);) text += escaped(line) + "\n";
  }
  return text + ".fi\n";
}

std::string description(const CLI::App& command) {
  std::string text = section("DESCRIPTION") + filled(command.get_description() + ".");
  std::istringstream lines(remarks_of(command));
  for (std::string line; std::getline(lines, line);) text += ".PP\n" + filled(line);
  return text;
}

std::string exit_status() {
  return section("EXIT STATUS") + entry("0", "Done.") +
         entry("1", "diff, parity: the two sides differ.") +
         entry("2", "A config key, a flag, or a combination that cannot be.") +
         entry("3", "A file: missing, torn, not what it says it is, or a full disk.") +
         entry("4", "The fabric: an MPI call failed.") + entry("70", "A bug in Switchyard.") +
         entry("75", "A rank hung or vanished; started again, the run resumes.") +
         entry("85", "Asked to stop, and saved; started again, the run resumes.") +
         entry("86", "Too many steps in a row with numbers that are not finite.");
}

std::string command_page(const CLI::App& command) {
  const std::string parent = command.get_parent()->get_name();
  return head_of(parent + "-" + command.get_name(), command.get_description()) +
         section("SYNOPSIS") + filled(synopsis(command), ".B ") + description(command) +
         options(command) + examples(command) + section("SEE ALSO") + ".BR " + parent + " (1)\n";
}

std::string program_page(const CLI::App& program) {
  std::string text = head_of(program.get_name(), "train Mixture-of-Experts language models") +
                     section("SYNOPSIS") + filled(synopsis(program), ".B ") + description(program);
  std::string pages;
  for (const std::string& group : command_groups(program)) {
    text += section("COMMANDS: " + group);
    for (const CLI::App* command : listed_commands(program)) {
      if (command->get_group() != group) continue;
      text += entry(command->get_name(), command->get_description() + ".");
      pages += ".BR " + program.get_name() + "\\-" + command->get_name() + " (1),\n";
    }
  }
  return text + options(program) + examples(program) + exit_status() + section("SEE ALSO") + pages +
         ".BR mpirun (1)\n";
}

/// Rank 0 alone writes.
ExitCode run_man(const CLI::App& program, const std::string& folder, const Runtime& runtime) {
  if (runtime.rank() != 0) return kExitOk;
  make_folders(folder);
  write_file_atomically(folder + "/" + program.get_name() + ".1", program_page(program));
  for (const CLI::App* command : listed_commands(program)) {
    write_file_atomically(folder + "/" + program.get_name() + "-" + command->get_name() + ".1",
                          command_page(*command));
  }
  return kExitOk;
}

}  // namespace

Command add_man(CLI::App& app) {
  auto folder = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("man", "Write the man pages into a folder");
  command->group("");  // not listed in the help: packages install the pages
  command->add_option("--out", *folder, "The folder")->type_name("FOLDER")->required();
  return {command,
          [folder, &app](const Runtime& runtime) { return run_man(app, *folder, runtime); }};
}

}  // namespace switchyard
