// YAML text -> RunConfig. What is accepted must come back the same from to_yaml.
#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "config/load_config.h"
#include "fuzz/fuzz.h"

namespace switchyard {
namespace {

constexpr const char* kFile = "config.yaml";

std::string repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

/// Aliases of aliases: nine levels of nine.
std::string laughs() {
  std::string text = "a0: &a0 [lol]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before +
            repeated(", " + before, 8) + "]\n";
  }
  return text;
}

std::vector<Seed> hostile() {
  const auto refused = [](const std::string& name, const std::string& text) {
    return Seed{name, {{kFile, text}}, Verdict::kRefused};
  };
  return {refused("laughs", laughs()),
          refused("deep flow", "model: " + repeated("[", 20'000)),
          refused("deep maps", "model: " + repeated("{a: ", 20'000)),
          refused("deep blocks", repeated("- ", 5'000)),
          refused("long", "# " + std::string(size_t{1} << 20, 'x')),
          refused("NUL", std::string("run: {name: a\0b}\n", 17)),
          refused("no UTF-8", "run: {name: \xff\xfe}\n"),
          refused("two documents", "run: {name: a}\n---\nrun: {name: b}\n"),
          refused("duplicate", "run: {name: a}\nrun: {name: b}\n"),
          refused("itself", "model: &m {hidden_size: *m}\n"),
          refused("no alias", "model: *nothing\n"),
          refused("merge", "x: &x {hidden_size: 8}\nmodel: {<<: *x}\n"),
          refused("tag", "model: !!python/object:os.system {hidden_size: 8}\n"),
          refused("yes", "model: {tie_word_embeddings: yes}\n"),
          refused("beyond 64 bits", "run: {seed: 18446744073709551616}\n"),
          refused("negative", "model: {hidden_size: -8}\n"),
          refused("not a number", "optim: {lr: .nan}\n"),
          refused("infinite", "optim: {lr: .inf}\n"),
          refused("overflow", "optim: {lr: 1e400}\n"),
          refused("product",
                  "model: {hidden_size: 9223372036854775807, num_hidden_layers: "
                  "9223372036854775807, num_attention_heads: 1}\n"),
          refused("list", "- 1\n- 2\n"),
          refused("a comma", ", a"),
          refused("a comma on a line of its own", "run: {name: a}\n, switch\n"),
          refused("end of transmission", "run: {name: a\4}\n"),
          refused("an escaped NUL", "run: {name: \"a\\0b\"}\n"),
          refused("open quote", "run: {name: \"a\n"),
          refused("tabs", "run:\n\tname: a\n"),
          refused("map as key", "? {a: b}\n: c\n"),
          {"empty", {{kFile, ""}}, Verdict::kAccepted},
          {"CRLF", {{kFile, "run:\r\n  name: a\r\n"}}, Verdict::kAccepted},
          {"BOM", {{kFile, "\xef\xbb\xbfrun: {name: a}\n"}}, Verdict::kAccepted}};
}

const RunConfig kDefaults;

class ConfigTarget final : public FuzzTarget {
 public:
  std::string name() const override { return "fuzz_config"; }

  std::vector<Seed> seeds() override {
    std::vector<Seed> seeds = hostile();
    seeds.push_back({"defaults", {{kFile, to_yaml(kDefaults)}}, Verdict::kAccepted});
    const std::string source = SWITCHYARD_SOURCE_DIR;
    for (const char* folder : {"/configs", "/tests/config/fixtures/bad"}) {
      std::vector<std::string> paths;
      for (const auto& entry : std::filesystem::directory_iterator(source + folder)) {
        if (entry.path().extension() == ".yaml") paths.push_back(entry.path().string());
      }
      std::sort(paths.begin(), paths.end());
      for (const std::string& path : paths) seeds.push_back({path, {{kFile, slurp(path)}}});
    }
    return seeds;
  }

  std::vector<std::string> words() const override {
    std::vector<std::string> words = {"auto",
                                      "null",
                                      "~",
                                      "true",
                                      "false",
                                      "yes",
                                      "- ",
                                      ": ",
                                      ", ",
                                      "[",
                                      "]",
                                      "{",
                                      "}",
                                      "\"",
                                      "'",
                                      "|",
                                      ">",
                                      "&a ",
                                      "*a",
                                      "!!int ",
                                      "<<: ",
                                      "# ",
                                      "---\n",
                                      "...\n",
                                      "\n",
                                      "\t",
                                      "? ",
                                      "%YAML 1.2\n",
                                      "every:2",
                                      "last:3",
                                      "every:0",
                                      "global_lagged",
                                      "micro_batch",
                                      "extends: x.yaml\n",
                                      "*.mlp.gate.*: 0.1"};
    // Every key there is.
    const std::string text = to_yaml(kDefaults);
    for (size_t at = 0; (at = text.find(": ", at)) != std::string::npos; at += 2) {
      const size_t begin = text.find_last_of(" \n{", at - 1) + 1;
      words.push_back(text.substr(begin, at + 2 - begin));
    }
    return words;
  }

  void run(const Files& files) override {
    const auto file = files.find(kFile);
    const RunConfig config = parse_config(file == files.end() ? "" : file->second, "fuzz.yaml");
    if (config.checkpoint.load_from) return;  // unfinished: the checkpoint has the rest to say
    const std::string text = to_yaml(config);
    const RunConfig again = read_back(text);
    if (!(again == config)) throw Finding("to_yaml reads back as another config:\n" + text);
    if (to_yaml(again) != text) throw Finding("to_yaml is no fixpoint:\n" + text);
    if (!validate(config, 0).empty()) throw Finding("accepted, and not valid:\n" + text);
    validate(config, 4);
    advice(config);
  }

  /// Aliases and a mebibyte of short lines are the parser's to bear: they are bounded as a whole.
  size_t allowance(size_t) const override { return size_t{512} << 20; }

 private:
  static RunConfig read_back(const std::string& text) {
    try {
      return parse_config(text, "again.yaml");
    } catch (const Error& error) {
      throw Finding(std::string("to_yaml is refused: ") + error.what() + "\n" + text);
    }
  }
};

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  switchyard::ConfigTarget target;
  return switchyard::fuzz_main(argc, argv, target);
}
