#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

// What a command's declaration says, in parts: --help, the man pages and the shells'
// completion are all made of these, so that none of them lags behind the flags.
//
// A declaration gives an option's value a type_name(): words as "val|train", in capitals
// what is not meant literally, as FILE, FOLDER, CHECKPOINT or TOKENS. A line of a footer
// that begins with "Example: " is a command to copy.

namespace switchyard {

/// An option, a switch or an argument of a command.
struct FlagText {
  std::string name;     // "--split"; "" for an argument by position
  std::string value;    // "val|train", "FILE"; "" for a switch
  std::string meaning;  // one paragraph, with the default or "Required."
  bool repeats = false;

  /// What can be typed of a choice: "auto", "every:" of "auto|every:N|LIST". Else none.
  std::vector<std::string> words() const;

  /// Whether a path may stand here, so far as `value` tells.
  bool takes_path() const;

  /// "--split val|train", "CONFIG.yaml", "--text FILE...".
  std::string usage() const;
};

/// The arguments by position first, then the options as they were declared.
std::vector<FlagText> flags_of(const CLI::App& command);

/// The commands that are listed, in the order of their groups.
std::vector<const CLI::App*> listed_commands(const CLI::App& program);

/// The groups of listed commands, in the order of the commands.
std::vector<std::string> command_groups(const CLI::App& program);

/// "switchyard eval [OPTION]... --checkpoint CHECKPOINT --data FOLDER".
std::string synopsis(const CLI::App& command);

/// The footer without its examples, "" if there is nothing else.
std::string remarks_of(const CLI::App& command);

/// The commands after "Example: ", one line each.
std::vector<std::string> examples_of(const CLI::App& command);

/// The same in lines of at most `width` letters that a shell joins again.
std::string example_lines(const std::string& example, size_t indent, size_t width);

/// What --help prints, of the program or of one command, at most 96 letters wide.
std::string help_text(const CLI::App& command);

}  // namespace switchyard
