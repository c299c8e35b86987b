#pragma once

#include <string>

namespace CLI {
class App;
}

namespace switchyard {

/// Scripts that teach a shell the commands, their flags and words, the files where a file is
/// taken, and the config's keys behind --set. They hold all of it and call nothing: the
/// program takes half a second to start, too long for a key press.
std::string bash_completion(const CLI::App& program);
std::string zsh_completion(const CLI::App& program);
std::string fish_completion(const CLI::App& program);

}  // namespace switchyard
