#include "cli/completion.h"

#include <CLI/CLI.hpp>
#include <memory>

#include "base/error.h"
#include "cli/command.h"
#include "cli/command_text.h"
#include "config/keys.h"

namespace switchyard {
namespace {

std::string joined(const std::vector<std::string>& words) { return CLI::detail::join(words, " "); }

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  return CLI::detail::find_and_replace(std::move(text), from, to);
}

/// In single quotes, which bash and zsh end and begin anew around one of the text's own.
std::string shell_quoted(const std::string& text) {
  return "'" + replaced(text, "'", "'\\''") + "'";
}

/// The config's keys.
bool takes_keys(const FlagText& flag) { return flag.name == "--set"; }

/// A key's value is set, never a section as a whole.
std::vector<Key> settable_keys() {
  std::vector<Key> keys;
  for (const Key& key : all_keys()) {
    if (!key.holds_keys) keys.push_back(key);
  }
  return keys;
}

std::string key_names(const std::string& separator) {
  std::string names;
  for (const Key& key : settable_keys()) {
    names += (names.empty() ? "" : separator) + key.path() + "=";
  }
  return names;
}

/// The names of one option: "--help" and "-h".
std::vector<std::string> names_of(const FlagText& flag) {
  if (flag.name.empty()) return {};
  return CLI::detail::split(replaced(flag.name, " ", ""), ',');
}

/// What comes first in an argument's place: words, or files ("").
std::string argument_words(const CLI::App& command) {
  const std::vector<FlagText> flags = flags_of(command);
  return flags.empty() || !flags.front().name.empty() ? "" : joined(flags.front().words());
}

/// The cases of `case "$command $before" in`.
std::string bash_values(const CLI::App& command) {
  std::string cases;
  for (const FlagText& flag : flags_of(command)) {
    if (flag.name.empty() || flag.value.empty()) continue;
    const std::string pattern = "    " + shell_quoted(command.get_name() + " " + flag.name) + ")";
    std::string action = " ";
    if (takes_keys(flag)) action += "_switchyard_setting; ";
    if (flag.takes_path()) action += "_switchyard_path; ";
    if (!flag.words().empty())
      action += "_switchyard_words " + shell_quoted(joined(flag.words())) + "; ";
    cases += pattern + action + "return ;;\n";
  }
  return cases;
}

std::string bash_flags(const CLI::App& command) {
  std::vector<std::string> names;
  for (const FlagText& flag : flags_of(command)) {
    for (const std::string& name : names_of(flag)) names.push_back(name);
  }
  return "    " + command.get_name() + ") flags=" + shell_quoted(joined(names)) +
         " arguments=" + shell_quoted(argument_words(command)) + " ;;\n";
}

std::string zsh_text(const std::string& text) {
  return replaced(replaced(replaced(text, "[", "\\["), "]", "\\]"), ":", "\\:");
}

std::string zsh_action(const FlagText& flag) {
  if (takes_keys(flag)) return "_switchyard_setting";
  const std::string words = joined(flag.words());
  if (flag.takes_path() && !words.empty()) return "{compadd " + words + "; _files}";
  if (!words.empty()) return "(" + words + ")";
  return flag.takes_path() || flag.name.empty() ? "_files" : " ";
}

/// One argument of _arguments.
std::string zsh_spec(const std::string& name, const FlagText& flag) {
  if (name.empty()) return "'*:" + zsh_text(flag.value) + ":" + zsh_action(flag) + "'";
  std::string spec = (flag.repeats ? "*" : "") + name + "[" + zsh_text(flag.meaning) + "]";
  if (!flag.value.empty()) spec += ":" + zsh_text(flag.value) + ":" + zsh_action(flag);
  return shell_quoted(spec);
}

std::string zsh_command(const CLI::App& command) {
  std::string text = "    " + command.get_name() + ")\n      _arguments -s";
  for (const FlagText& flag : flags_of(command)) {
    if (flag.name.empty()) text += " \\\n        " + zsh_spec("", flag);
    for (const std::string& name : names_of(flag)) text += " \\\n        " + zsh_spec(name, flag);
  }
  return text + " ;;\n";
}

std::string fish_quoted(const std::string& text) {
  return "'" + replaced(replaced(text, "\\", "\\\\"), "'", "\\'") + "'";
}

/// `complete` of one flag of one command.
std::string fish_flag(const CLI::App& command, const FlagText& flag) {
  std::string line =
      "complete -c switchyard -n '__fish_seen_subcommand_from " + command.get_name() + "'";
  for (const std::string& name : names_of(flag)) {
    line += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
  }
  if (takes_keys(flag)) line += " -a '(__switchyard_settings)'";
  if (!flag.words().empty()) line += " -a " + fish_quoted(joined(flag.words()));
  const bool by_name = !flag.name.empty() && !flag.value.empty();
  if (by_name) line += flag.takes_path() ? " -r -F" : " -x";
  if (flag.name.empty() && !flag.takes_path()) line += " -f";
  return line + " -d " + fish_quoted(flag.meaning) + "\n";
}

ExitCode run_completion(const CLI::App& program, const std::string& shell, const Runtime& runtime) {
  if (shell == "bash") {
    print_once(runtime, bash_completion(program));
  } else if (shell == "zsh") {
    print_once(runtime, zsh_completion(program));
  } else if (shell == "fish") {
    print_once(runtime, fish_completion(program));
  } else {
    throw ConfigError("completion: `" + shell + "` is not one of bash, zsh, fish");
  }
  return kExitOk;
}

}  // namespace

std::string bash_completion(const CLI::App& program) {
  std::string commands, values, flags, words;
  for (const CLI::App* command : listed_commands(program)) {
    commands += command->get_name() + " ";
    values += bash_values(*command);
    flags += bash_flags(*command);
  }
  for (const Key& key : settable_keys()) {
    if (key.words.empty()) continue;
    words += "    " + key.path() + ") words=" + shell_quoted(joined(key.words)) + " ;;\n";
  }
  return "# Completion of switchyard for bash, made by: switchyard completion bash\n"
         "_switchyard_path() {\n"
         "  compopt -o filenames 2> /dev/null\n"
         "  mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
         "}\n\n"
         "# Readline replaces what follows the last = or : of the word.\n"
         "_switchyard_words() {\n"
         "  local kept=${current%\"${current##*[=:]}\"} word\n"
         "  while read -r word; do\n"
         "    COMPREPLY+=(\"${word#\"$kept\"}\")\n"
         "  done < <(compgen -W \"$1\" -- \"$current\")\n"
         "}\n\n"
         "_switchyard_setting() {\n"
         "  local words='' key=${current%%=*}\n"
         "  if [[ $current != *=* ]]; then\n"
         "    compopt -o nospace 2> /dev/null\n"
         "    _switchyard_words " +
         shell_quoted(key_names(" ")) +
         "\n"
         "    return\n"
         "  fi\n"
         "  case $key in\n" +
         words +
         "  esac\n"
         "  _switchyard_words \"${words:+$key=${words// / $key=}}\"\n"
         "}\n\n"
         "_switchyard() {\n"
         "  local line=${COMP_LINE:0:COMP_POINT} typed at=-1 i\n"
         "  local current before command flags='' arguments=''\n"
         "  COMPREPLY=()\n"
         "  read -ra typed <<< \"$line\"\n"
         "  [[ $line != *[[:space:]] ]] || typed+=('')\n"
         "  # Behind mpirun the program is some way along.\n"
         "  for i in \"${!typed[@]}\"; do\n"
         "    if [[ ${typed[i]##*/} == switchyard ]]; then at=$i && break; fi\n"
         "  done\n"
         "  if ((at < 0 || at + 1 >= ${#typed[@]})); then return; fi\n"
         "  current=${typed[-1]} before=${typed[-2]} command=${typed[at + 1]}\n"
         "  if ((at + 2 == ${#typed[@]})); then\n"
         "    _switchyard_words '" +
         commands +
         "--help --version'\n"
         "    return\n"
         "  fi\n"
         "  case \"$command $before\" in\n" +
         values +
         "  esac\n"
         "  case $command in\n" +
         flags +
         "    *) return ;;\n"
         "  esac\n"
         "  if [[ $current == -* ]]; then\n"
         "    _switchyard_words \"$flags\"\n"
         "  elif [[ -n $arguments ]]; then\n"
         "    _switchyard_words \"$arguments\"\n"
         "  else\n"
         "    _switchyard_path\n"
         "  fi\n"
         "}\n\n"
         "complete -o bashdefault -o default -F _switchyard switchyard mpirun mpiexec\n";
}

std::string zsh_completion(const CLI::App& program) {
  std::string commands, cases, words;
  for (const CLI::App* command : listed_commands(program)) {
    commands +=
        "    " +
        shell_quoted(zsh_text(command->get_name()) + ":" + zsh_text(command->get_description())) +
        "\n";
    cases += zsh_command(*command);
  }
  for (const Key& key : settable_keys()) {
    if (key.words.empty()) continue;
    words += "      " + key.path() + ") compadd -- " + joined(key.words) + " ;;\n";
  }
  return "#compdef switchyard\n"
         "# Completion of switchyard for zsh, made by: switchyard completion zsh\n"
         "_switchyard_setting() {\n"
         "  local key=${PREFIX%%=*}\n"
         "  if compset -P '*='; then\n"
         "    case $key in\n" +
         words +
         "    esac\n"
         "  else\n"
         "    compadd -S '' -- " +
         key_names(" ") +
         "\n"
         "  fi\n"
         "}\n\n"
         "_switchyard() {\n"
         "  local -a commands\n"
         "  commands=(\n" +
         commands +
         "  )\n"
         "  if ((CURRENT == 2)); then\n"
         "    _describe command commands\n"
         "    return\n"
         "  fi\n"
         "  shift words\n"
         "  ((CURRENT--))\n"
         "  case $words[1] in\n" +
         cases +
         "  esac\n"
         "}\n\n"
         "# Loaded by compinit, this file is the function; sourced, it is not.\n"
         "if [[ $funcstack[1] == _switchyard ]]; then\n"
         "  _switchyard \"$@\"\n"
         "else\n"
         "  compdef _switchyard switchyard\n"
         "fi\n";
}

std::string fish_completion(const CLI::App& program) {
  std::string text =
      "# Completion of switchyard for fish, made by: switchyard completion fish\n"
      "function __switchyard_settings\n"
      "  printf '%s\\n' " +
      key_names(" ") + "\n";
  for (const Key& key : settable_keys()) {
    if (key.words.empty()) continue;
    text += "  printf '" + key.path() + "=%s\\n' " + joined(key.words) + "\n";
  }
  text += "end\n\n";
  for (const CLI::App* command : listed_commands(program)) {
    text += "complete -c switchyard -n __fish_use_subcommand -f -a " + command->get_name() +
            " -d " + fish_quoted(command->get_description()) + "\n";
    for (const FlagText& flag : flags_of(*command)) text += fish_flag(*command, flag);
  }
  return text;
}

Command add_completion(CLI::App& app) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("completion",
                                         "Print a script that completes commands, "
                                         "flags and config keys in a shell");
  command->add_option("shell", *shell, "The shell that is to learn them")
      ->type_name("bash|zsh|fish")
      ->required();
  command->footer(
      "A package installs these scripts where the shells look for them. By hand: bash and fish "
      "read the script as below; zsh wants it as a file named _switchyard in a folder of its "
      "fpath.\n"
      "Example: switchyard completion bash > "
      "~/.local/share/bash-completion/completions/switchyard\n"
      "Example: switchyard completion zsh > ~/.zfunc/_switchyard\n"
      "Example: switchyard completion fish > ~/.config/fish/completions/switchyard.fish");
  return {command,
          [shell, &app](const Runtime& runtime) { return run_completion(app, *shell, runtime); }};
}

}  // namespace switchyard
