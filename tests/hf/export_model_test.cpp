#include "hf/export_model.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "base/scratch_folder.h"
#include "hf/hf_folder.h"
#include "hf/memory_source.h"
#include "model/model_tensors.h"

namespace switchyard {
namespace {

ExportFacts sample_facts() {
  ExportFacts facts;
  facts.model.vocab_size = 40;
  facts.model.hidden_size = 16;
  facts.model.num_hidden_layers = 2;
  facts.model.num_attention_heads = facts.model.num_key_value_heads = 2;
  facts.model.head_dim = 8;
  facts.moe.num_experts = 4;
  facts.moe.expert_intermediate_size = 8;
  facts.sequence_length = 77;
  facts.receipt = "By hand.\n";
  return facts;
}

/// Random tensors of the model, bfloat16 weights with float32 masters, and moments.
std::map<std::string, at::Tensor> sample_tensors(const ExportFacts& facts) {
  std::map<std::string, at::Tensor> tensors;
  for (const ModelTensor& tensor : model_tensors(facts.model, facts.moe)) {
    const at::Tensor master = at::randn(tensor.shape);
    tensors[tensor.name] = master.to(at::kBFloat16);
    tensors[tensor.name + ".master"] = master;
    tensors[tensor.name + ".exp_avg"] = at::randn(tensor.shape);
  }
  return tensors;
}

ExportOptions as_mixtral(std::optional<at::ScalarType> dtype = std::nullopt) {
  ExportOptions options;
  options.family = Family::kMixtral;
  options.dtype = dtype;
  return options;
}

TEST(ExportModelTest, WritesTheModelAndNothingOfItsTraining) {
  const ScratchFolder scratch;
  const ExportFacts facts = sample_facts();
  MemorySource source(sample_tensors(facts));
  const ExportSummary summary = export_model(source, facts, as_mixtral(), scratch / "a/hf");
  EXPECT_EQ(list_folder(scratch / "a"), std::vector<std::string>{"hf"});
  HfFolder folder(scratch / "a/hf");
  EXPECT_EQ(folder.model().family, Family::kMixtral);
  EXPECT_EQ(folder.model().max_position_embeddings, 77);
  EXPECT_EQ(folder.tensors().size(), summary.tensors);
  EXPECT_EQ(summary.tensors, model_tensors(facts.model, facts.moe).size());
  EXPECT_EQ(summary.warning, "the model came without a tokenizer");
  for (const TensorInfo& tensor : folder.tensors()) {
    EXPECT_TRUE(at::equal(folder.read(tensor.name), source.read(tensor.name))) << tensor.name;
  }
}

TEST(ExportModelTest, Float32ComesFromTheMasters) {
  const ScratchFolder scratch;
  const ExportFacts facts = sample_facts();
  MemorySource source(sample_tensors(facts));
  export_model(source, facts, as_mixtral(at::kFloat), scratch / "hf");
  HfFolder folder(scratch / "hf");
  EXPECT_EQ(folder.config()["dtype"], "float32");
  for (const TensorInfo& tensor : folder.tensors()) {
    EXPECT_TRUE(at::equal(folder.read(tensor.name), source.read(tensor.name + ".master")));
  }
}

TEST(ExportModelTest, ASourceThatIsNotTheModelIsRefused) {
  const ScratchFolder scratch;
  const ExportFacts facts = sample_facts();
  const auto refused = [&](std::map<std::string, at::Tensor> tensors) {
    MemorySource source(std::move(tensors));
    const std::string message =
        message_of<DataError>([&] { export_model(source, facts, as_mixtral(), scratch / "a/hf"); });
    EXPECT_TRUE(list_folder(scratch.path()).empty());
    return message;
  };
  std::map<std::string, at::Tensor> tensors = sample_tensors(facts);
  tensors["model.norm.weight"] = at::ones({17});
  EXPECT_EQ(refused(tensors),
            "memory: tensor \"model.norm.weight\" has another shape than the model's");
  tensors.erase("model.norm.weight");
  EXPECT_EQ(refused(tensors), "memory: no tensor \"model.norm.weight\"");
}

TEST(ExportModelTest, ImportedFamilyIsThatOfItsConfig) {
  EXPECT_EQ(imported_family({}), std::nullopt);
  EXPECT_EQ(imported_family({{"hf_config.json", R"({"model_type": "olmoe"})"}}), Family::kOlmoe);
  EXPECT_EQ(imported_family({{"hf_config.json", R"({"model_type": "bert"})"}}), std::nullopt);
}

TEST(ExportModelTest, ProposesAFamilyThatCan) {
  ExportFacts facts = sample_facts();
  EXPECT_EQ(
      message_of<ConfigError>([&] { require_expressible(Family::kLlama, facts.model, facts.moe); }),
      "the model cannot be written as llama:\n  the mixture of experts: Llama is dense\n"
      "use --format mixtral, which can express it");
  facts.moe.router.type = "gshard";
  const std::string none =
      message_of<ConfigError>([&] { require_expressible(Family::kLlama, facts.model, facts.moe); });
  EXPECT_NE(none.find("no Hugging Face family can express this model"), std::string::npos) << none;
}

}  // namespace
}  // namespace switchyard
