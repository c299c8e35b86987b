#include "config/document.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

Document parse(const std::string& text) { return parse_document(text, "f.yaml", Lines::kNumbered); }

std::string issue(const std::string& text) {
  const Document document = parse(text);
  std::string lines;
  for (const Issue& found : document.issues) lines += to_string(found.place) + ": " + found.text;
  return lines;
}

TEST(Document, KnowsTheLineOfEachKey) {
  const Document document = parse("a: 1\n\nb:\n  c: [x,\n      y]\n");
  EXPECT_EQ(document.root.find("a")->place.line, 1);
  const Value* b = document.root.find("b");
  EXPECT_EQ(b->place.line, 3);
  EXPECT_EQ(b->find("c")->place.line, 4);
  EXPECT_EQ(b->find("c")->children[1].place.line, 5);
}

TEST(Document, TellsQuotedFromPlainAndNullFromText) {
  const Document document = parse("a: \"8\"\nb: 8\nc: null\nd: 'null'\ne:\n");
  EXPECT_TRUE(document.root.find("a")->quoted);
  EXPECT_FALSE(document.root.find("b")->quoted);
  EXPECT_EQ(document.root.find("c")->kind, Value::Kind::kNull);
  EXPECT_EQ(document.root.find("d")->kind, Value::Kind::kScalar);
  EXPECT_EQ(document.root.find("e")->kind, Value::Kind::kNull);
}

TEST(Document, RefusesWhatItCannotMean) {
  EXPECT_EQ(issue("a: 1\nb: 2\na: 3\n"),
            "f.yaml:3: duplicate key `a`; it was given at f.yaml:1, keep one of the two");
  EXPECT_EQ(issue("a:\n  b: {c: 1, c: 2}\n"),
            "f.yaml:2: duplicate key `a.b.c`; it was given at f.yaml:2, keep one of the two");
  EXPECT_EQ(issue("a: 1\n---\nb: 2\n"),
            "f.yaml:3: a second YAML document (after `---`); a config is one document");
  EXPECT_EQ(issue("[1]: 2\n"), "f.yaml:1: a key must be a word");
  EXPECT_EQ(issue("a: [1\n"), "f.yaml:2: not valid YAML: end of sequence flow not found");
}

// Found by fuzzing: yaml-cpp 0.7 makes empty documents of a leading comma without end.
TEST(Document, ALeadingCommaEnds) {
  EXPECT_EQ(issue(", a"), "f.yaml:1: not valid YAML: a document does not begin like this");
  EXPECT_EQ(issue("# comment\n, switch\nmoe: {}\n"),
            "f.yaml:2: not valid YAML: a document does not begin like this");
}

TEST(Document, ControlCharactersAndOtherEncodingsAreNoText) {
  const std::string text = "f.yaml:2: a control character, or no valid UTF-8; a config is text";
  EXPECT_EQ(issue(std::string("a: 1\nb: x\0y\n", 12)), text);
  EXPECT_EQ(issue("a: 1\nb: \4\n"), text);
  EXPECT_EQ(issue("a: 1\nb: \xff\xfe\n"), text);
  EXPECT_EQ(issue("a: 1\nb: \"x\\0y\"\n"),
            "f.yaml:2: a word with a control character; no key or value has one");
  EXPECT_EQ(issue("\"a\\n\": 1\n"),
            "f.yaml:1: a word with a control character; no key or value has one");
  EXPECT_EQ(issue("a: 1\nb: \"x\\_y\"\n"),
            "f.yaml:2: an escape that makes no valid UTF-8; write the character itself");
  EXPECT_EQ(issue("a: \xc3\xa9\r\n\tb"), issue("a: e\r\n\tb")) << "tabs, CR and letters are";
}

TEST(Document, BoundsSizeDepthAndAliases) {
  EXPECT_EQ(issue(std::string(1100000, ' ')),
            "f.yaml:1: 1100000 bytes is more than the 1 MiB a config may have; is it one?");
  EXPECT_EQ(issue(std::string(40, '[') + std::string(40, ']')),
            "f.yaml:1: nested deeper than 16 levels; no key of a config is");
  EXPECT_EQ(issue(std::string(100000, '[')), "f.yaml:1: nested too deep; no key of a config is");
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string below = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + below + ", " + below +
            ", " + below + ", " + below + ", " + below + ", " + below + "]\n";
  }
  EXPECT_NE(issue(bomb).find("more than 100000 values; are there aliases of aliases?"),
            std::string::npos);
  EXPECT_NE(issue("a: &a [*a]\n"), "");
}

TEST(Document, OverlayMergesMappingsAndReplacesTheRest) {
  Value base = parse("a: {x: 1, y: [1, 2]}\nb: 3\nc: {d: 1}\n").root;
  overlay(base, parse("a: {y: [4], z: 5}\nb: {k: 1}\nc:\n").root);
  EXPECT_EQ(base.find("a")->find("x")->scalar, "1");
  EXPECT_EQ(base.find("a")->find("y")->children.size(), 1u);
  EXPECT_EQ(base.find("a")->find("z")->scalar, "5");
  EXPECT_EQ(base.find("b")->find("k")->scalar, "1");
  EXPECT_EQ(base.find("c")->find("d")->scalar, "1");
}

}  // namespace
}  // namespace switchyard
