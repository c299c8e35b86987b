#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/log.h"
#include "cli/command.h"
#include "hf/export_model.h"
#include "train/model_receipt.h"
#include "train/save_model.h"
#include "train/upcycle_receipt.h"

namespace switchyard {
namespace {

struct UpcycleFlags {
  std::vector<std::string> from;
  std::string out, method = "copy", scaling = "exact", optimizer_state = "drop",
                   router_score = "softmax", format = "switchyard", data;
  int64_t sample_tokens = 1024, seed = 1234;
  bool json = false;
  UpcycleOptions options;
};

/// The value whose word it is. Throws ConfigError with all words.
template <typename Value>
Value parse_word(const char* flag, const std::string& word,
                 const std::vector<std::pair<std::string, Value>>& words) {
  std::string all;
  for (const auto& [known, value] : words) {
    if (known == word) return value;
    all += (all.empty() ? "" : ", ") + known;
  }
  throw ConfigError(std::string(flag) + ": `" + word + "` is not one of " + all);
}

UpcycleOptions options_of(const UpcycleFlags& flags) {
  UpcycleOptions options = flags.options;
  options.method = parse_word<UpcycleMethod>("--method", flags.method,
                                             {{"copy", UpcycleMethod::kCopy},
                                              {"drop", UpcycleMethod::kDrop},
                                              {"noise", UpcycleMethod::kNoise},
                                              {"average", UpcycleMethod::kAverage}});
  options.scaling = parse_word<ExpertScaling>(
      "--scaling", flags.scaling,
      {{"exact", ExpertScaling::kExact}, {"published", ExpertScaling::kPublished}});
  options.optimizer_state = parse_word<OptimizerState>(
      "--optimizer-state", flags.optimizer_state,
      {{"drop", OptimizerState::kDrop}, {"carry", OptimizerState::kCarry}});
  options.sigmoid = parse_word<bool>("--router-score", flags.router_score,
                                     {{"softmax", false}, {"sigmoid", true}});
  if (flags.seed < 0) throw ConfigError("--seed: must be 0 or more");
  options.seed = static_cast<uint64_t>(flags.seed);
  return options;
}

/// Nothing for a Switchyard checkpoint.
std::optional<Family> family_of(const std::string& word) {
  std::vector<std::pair<std::string, std::optional<Family>>> words = {{"switchyard", std::nullopt}};
  for (const std::string& family : family_words()) words.emplace_back(family, parse_family(family));
  return parse_word<std::optional<Family>>("--format", word, words);
}

/// What can be refused before anything is read or computed.
void check(const UpcycleFlags& flags, const UpcycleOptions& options,
           const std::optional<Family>& family) {
  check_options(options, flags.from.size());
  if (flags.sample_tokens < 0 || flags.sample_tokens == 1) {
    throw ConfigError("--sample-tokens: must be 2 or more, or 0 to measure nothing");
  }
  if (family && options.optimizer_state == OptimizerState::kCarry) {
    throw ConfigError(
        "--optimizer-state carry: a Hugging Face folder has no place for moments; "
        "use --format switchyard");
  }
  if (path_exists(flags.out) && !(is_folder(flags.out) && list_folder(flags.out).empty())) {
    throw ConfigError("--out: " + flags.out + " is there already; name a new folder, or remove it");
  }
}

void write_folder(ModelSource& model, Family family, const std::string& out) {
  ExportOptions options;
  options.family = family;
  const ExportSummary summary = export_model(*model.tensors, export_facts(model), options, out);
  if (!summary.warning.empty()) log_warning(summary.warning + ": none is written");
}

/// Collective.
void write(const Runtime& runtime, ModelSource& model, const std::optional<Family>& family,
           const std::string& out) {
  const std::unique_ptr<Communicator> world = std::move(runtime.make_mesh({}).world);
  world->barrier("all ranks have seen that --out is free");
  if (!family) {
    save_model(*world, model, out);
    return;
  }
  if (runtime.rank() == 0) write_folder(model, *family, out);
  world->barrier("the folder is written");
}

/// What the remarks came to, for the reader of the log.
std::string measured(const nlohmann::ordered_json& receipt) {
  char text[160];
  std::snprintf(
      text, sizeof(text),
      "measured here: logits differ by at most %.3g (relative norm %.3g), loss %.6f -> %.6f",
      receipt.at("max_logit_difference").get<double>(),
      receipt.at("relative_logit_difference").get<double>(),
      receipt.at("loss_before").get<double>(), receipt.at("loss_after").get<double>());
  return text;
}

ExitCode run_upcycle(const UpcycleFlags& flags, const Runtime& runtime) {
  UpcycleOptions options = options_of(flags);
  const std::optional<Family> family = family_of(flags.format);
  // Qwen2-MoE's shared expert always has a gate, GLM-4-MoE's router sigmoid scores.
  options.shared_gate |= family == Family::kQwen2Moe && options.shared_expert;
  options.sigmoid |= family == Family::kGlm4Moe;
  check(flags, options, family);
  std::vector<ModelSource> sources;
  for (const std::string& from : flags.from) sources.push_back(open_model(from));
  UpcycledModel upcycled = upcycle(sources, options);
  ModelSource& model = upcycled.model;
  if (family) require_expressible(*family, model.config.model, model.config.moe);
  for (const std::string& remark : upcycled.remarks) log_warning(remark);

  const SampleTokens sample =
      sample_tokens(sources.front(), flags.data, flags.sample_tokens, options.seed);
  const nlohmann::ordered_json receipt =
      receipt_json(measure_receipt(runtime, sources, upcycled, sample), options, sources, upcycled);
  if (!upcycled.remarks.empty() && flags.sample_tokens > 0) log_warning(measured(receipt));
  model.files.emplace_back("receipt.json", receipt.dump(2) + "\n");
  write(runtime, model, family, flags.out);
  print_once(runtime, flags.json ? receipt.dump() + "\n"
                                 : receipt_text(receipt) + "written      " + flags.out + "\n");
  return kExitOk;
}

void add_expert_flags(CLI::App& command, UpcycleFlags& flags) {
  UpcycleOptions& options = flags.options;
  command.add_option("--num-experts", options.num_experts, "Experts of each MoE layer")
      ->type_name("EXPERTS");
  command.add_option("--top-k", options.top_k, "Experts that a token goes to")
      ->type_name("EXPERTS");
  command
      .add_option("--layers", options.layers,
                  "The layers that become MoE layers; a list of indices from 0 too, as 1,3,5")
      ->type_name("all|every:N|last:N|LIST")
      ->capture_default_str();
  command
      .add_option("--granularity", options.granularity,
                  "G: each network is split into G experts of 1/G of its width, chosen together "
                  "at first (arXiv:2410.07524)")
      ->type_name("G")
      ->default_str("1");
  command
      .add_option("--scaling", flags.scaling,
                  "exact: down-projections times G, which keeps the function where top-k is a "
                  "multiple of G. published: arXiv:2410.07524's rule, on all matrices")
      ->type_name("exact|published")
      ->capture_default_str();
  command
      .add_option("--drop-ratio", options.drop_ratio,
                  "With drop: share of inner units drawn anew in each expert")
      ->type_name("SHARE")
      ->default_str("0.5");
  command
      .add_option("--noise-std", options.noise_std,
                  "With noise: standard deviation of what is added")
      ->type_name("STD")
      ->default_str("0.01");
  command
      .add_option("--router-init-std", options.router_init_std,
                  "Standard deviation of the new router's weights")
      ->type_name("STD")
      ->capture_default_str();
  command.add_flag("--normalize,!--no-normalize", options.normalize,
                   "Make a token's weights sum to 1, the default; without, the experts give less "
                   "than the dense network did");
  command
      .add_option("--router-score", flags.router_score,
                  "What makes weights of logits; sigmoid comes with a selection bias, as "
                  "DeepSeek-V3 and GLM-4-MoE route")
      ->type_name("softmax|sigmoid")
      ->capture_default_str();
  command.add_flag("--shared-expert", options.shared_expert,
                   "A shared expert of the dense network, which gives half of the output, the "
                   "routed ones the other half");
  command.add_flag("--shared-gate", options.shared_gate,
                   "Gate the shared expert as Qwen2-MoE does, open by half at first");
}

std::string format_words() {
  std::string words = "switchyard";
  for (const std::string& family : family_words()) words += "|" + family;
  return words;
}

}  // namespace

Command add_upcycle(CLI::App& app) {
  auto flags = std::make_shared<UpcycleFlags>();
  CLI::App* command = app.add_subcommand(
      "upcycle", "Make a mixture of experts of a dense model, or one model of several");
  command
      ->add_option("--from", flags->from,
                   "A dense model: a step-... folder, a run folder (its latest) or a Hugging Face "
                   "folder. Given several times: experts from each in turn, the mean of the "
                   "rest (Branch-Train-MiX)")
      ->type_name("CHECKPOINT")
      ->required()
      ->allow_extra_args(false);
  command->add_option("--out", flags->out, "The folder to make; it must not exist")
      ->type_name("FOLDER")
      ->required();
  command
      ->add_option("--method", flags->method,
                   "How experts start from the dense network: as it is, with noise, or with units "
                   "drawn anew (Drop-Upcycling). average: no experts, but the dense mean of the "
                   "sources (Branch-Train-Merge)")
      ->type_name("copy|drop|noise|average")
      ->capture_default_str();
  add_expert_flags(*command, *flags);
  command
      ->add_option("--weights", flags->options.weights,
                   "With average: each source's weight, as 0.7,0.3; divided by their sum")
      ->type_name("WEIGHTS")
      ->default_str("all alike")
      ->delimiter(',')
      ->allow_extra_args(false);
  command
      ->add_option("--optimizer-state", flags->optimizer_state,
                   "carry: AdamW's moments come along, for checkpoint.load_optimizer_state")
      ->type_name("drop|carry")
      ->capture_default_str();
  command
      ->add_option("--format", flags->format,
                   "What is written: a checkpoint, or a Hugging Face family's folder")
      ->type_name(format_words())
      ->capture_default_str();
  command->add_option("--data", flags->data, "Folder that `prepare` made, for the receipt's tokens")
      ->type_name("FOLDER")
      ->default_str("a passage of Jane Austen in the model's own tokenizer");
  command
      ->add_option("--sample-tokens", flags->sample_tokens,
                   "Most tokens that the receipt is measured on. 0: none; the models are not run, "
                   "and may be larger than memory")
      ->type_name("TOKENS")
      ->capture_default_str();
  command->add_option("--seed", flags->seed, "Seed of every draw")
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("--json", flags->json, "The receipt as one JSON object on stdout");
  command->footer(
      "Prints a receipt: what the change did to the logits, the loss and the parameters. Ranks "
      "share the work under mpirun.\n"
      "Example: mpirun -n 2 switchyard upcycle --from data/smollm2-135m-instruct --out "
      "runs/upcycled --num-experts 8 --top-k 2\n"
      "Example: switchyard upcycle --from runs/dense --out hf/moe --num-experts 4 --top-k 1 "
      "--layers every:2 --method drop --format mixtral");
  return {command, [flags](const Runtime& runtime) { return run_upcycle(*flags, runtime); }};
}

}  // namespace switchyard
