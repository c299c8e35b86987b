#include "report/run_files.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/scratch_folder.h"

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

TEST(RunFilesTest, SettingsAreFlattened) {
  const ScratchFolder folder;
  write_file_atomically(folder / "config.yaml",
                        "optim: {lr: 1.0e-3, betas: [0.9, 0.95], lr_scale: {}}\nmoe:\n  balance: "
                        "[{type: switch}, {type: topk}]\n"
                        "future_key: yes\n");
  std::vector<std::string> notes;
  EXPECT_EQ(
      read_settings(folder.path(), notes).dump(),
      R"([["optim.lr","1.0e-3"],["optim.betas","[0.9, 0.95]"],["optim.lr_scale","{}"],)"
      R"(["moe.balance[0].type","switch"],["moe.balance[1].type","topk"],["future_key","yes"]])");
  EXPECT_TRUE(notes.empty());
}

TEST(RunFilesTest, FilesThatAreNotThereAreNull) {
  const ScratchFolder folder;
  std::vector<std::string> notes;
  EXPECT_TRUE(read_run_facts(folder.path(), notes).is_null());
  EXPECT_TRUE(read_routing(folder.path(), notes).is_null());
  EXPECT_TRUE(read_settings(folder.path(), notes).is_null());
  EXPECT_TRUE(notes.empty());
}

TEST(RunFilesTest, BrokenFilesAreNullAndSaid) {
  const ScratchFolder folder;
  write_file_atomically(folder / "run.json", "{\"steps\": ");
  write_file_atomically(folder / "routing.json", "[]");
  std::vector<std::string> notes;
  EXPECT_TRUE(read_run_facts(folder.path(), notes).is_null());
  EXPECT_TRUE(read_routing(folder.path(), notes).is_null());
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_TRUE(notes[0].starts_with("run.json could not be read")) << notes[0];
  EXPECT_EQ(notes[1], "routing.json is not a JSON object");
}

TEST(RunFilesTest, WrongTypesLeaveGaps) {
  const ScratchFolder folder;
  write_file_atomically(folder / "run.json",
                        R"({"steps": "many", "name": 3, "started": {}, "data": [1, {"name": "x"}],
                                                 "moe_layers": [0, "1"], "planned_bytes_per_rank": 5})");
  write_file_atomically(folder / "routing.json",
                        R"({"exchange": {"rows": [[1, 2], [3]]}, "top_tokens": {"layers": [
      {"layer": 0, "experts": [{"copies": 3, "top": [{"id": 1, "text": 5, "copies": 2, "share": null}]}, "?"]}]}})");
  std::vector<std::string> notes;
  const Json facts = read_run_facts(folder.path(), notes),
             routing = read_routing(folder.path(), notes);
  EXPECT_TRUE(notes.empty());
  EXPECT_TRUE(facts["steps"].is_null());
  EXPECT_TRUE(facts["planned_bytes_per_rank"].is_null());
  EXPECT_EQ(facts["started"], Json::array());
  EXPECT_EQ(facts["data"][1]["name"], "x");
  EXPECT_EQ(facts["moe_layers"], (Json{0, nullptr}));
  EXPECT_TRUE(routing["exchange"].is_null());
  EXPECT_EQ(routing["top_tokens"]["layers"][0]["experts"][0]["copies"], 3);
  EXPECT_TRUE(routing["top_tokens"]["layers"][0]["experts"][0]["top"][0]["text"].is_null());
  EXPECT_TRUE(routing["top_tokens"]["layers"][0]["experts"][1]["top"].empty());
}

}  // namespace
}  // namespace switchyard
