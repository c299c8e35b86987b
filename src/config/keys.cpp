#include "config/keys.h"

#include <algorithm>
#include <array>

#include "config/fields.h"
#include "config/join.h"
#include "config/nearest.h"

namespace switchyard {
namespace {

template <typename T>
std::vector<std::string> words_of(const T&, const Rule& rule) {
  std::vector<std::string> words(rule.words.begin(), rule.words.end());
  if constexpr (std::is_same_v<T, bool>) words = {"true", "false"};
  if (!rule.auto_means.empty()) words.emplace_back("auto");
  if (!rule.null_means.empty()) words.emplace_back("null");
  return words;
}

class KeyCollector {
 public:
  KeyCollector(std::string section, std::vector<Key>& keys)
      : section_(std::move(section)), keys_(keys) {}

  template <typename T>
  void operator()(std::string_view name, const T& value, const Rule& rule, std::string_view) {
    keys_.push_back({section_, std::string(name), words_of(value, rule)});
  }

  template <typename Section>
  void section(std::string_view name, const Section& value, std::string_view) {
    keys_.push_back({section_, std::string(name), {}, /*holds_keys=*/true});
    KeyCollector inner(keys_.back().path(), keys_);
    describe(inner, value);
  }

  template <typename Item>
  void list(std::string_view name, const std::vector<Item>&, std::string_view text) {
    section(name, Item{}, text);
  }

  void layers(std::string_view name, const std::string&, std::string_view) {
    keys_.push_back({section_, std::string(name), {"all", "none", "every:", "last:"}});
  }

 private:
  const std::string section_;
  std::vector<Key>& keys_;
};

std::vector<Key> collect_keys() {
  std::vector<Key> keys;
  KeyCollector collector("", keys);
  const RunConfig defaults;
  describe(collector, defaults);
  return keys;
}

struct ForeignName {
  std::string_view name;
  std::string_view path;
};

/// What other trainers and Hugging Face's config.json call our keys, where the
/// names are too far apart to pass for mistyped.
constexpr std::array kForeignNames = {
    ForeignName{"aux_loss_coef", "moe.balance.coef"},
    ForeignName{"batch_size", "train.global_batch_size"},
    ForeignName{"capacity_factor", "moe.capacity.factor"},
    ForeignName{"clip_grad", "optim.grad_clip"},
    ForeignName{"eval_capacity_factor", "moe.capacity.eval_factor"},
    ForeignName{"expert_parallel", "parallel.expert"},
    ForeignName{"expert_parallel_size", "parallel.expert"},
    ForeignName{"ffn_hidden_size", "model.intermediate_size"},
    ForeignName{"gradient_clipping", "optim.grad_clip"},
    ForeignName{"hidden_act", "model.ffn"},
    ForeignName{"learning_rate", "optim.lr"},
    ForeignName{"max_grad_norm", "optim.grad_clip"},
    ForeignName{"max_steps", "train.steps"},
    ForeignName{"moe_intermediate_size", "moe.expert_intermediate_size"},
    ForeignName{"n_routed_experts", "moe.num_experts"},
    ForeignName{"n_shared_experts", "moe.shared_experts.num"},
    ForeignName{"norm_topk_prob", "moe.router.normalize"},
    ForeignName{"num_experts_per_tok", "moe.top_k"},
    ForeignName{"num_layers", "model.num_hidden_layers"},
    ForeignName{"num_local_experts", "moe.num_experts"},
    ForeignName{"routed_scaling_factor", "moe.router.scaling_factor"},
    ForeignName{"router_aux_loss_coef", "moe.balance.coef"},
    ForeignName{"router_jitter_noise", "moe.router.jitter_eps"},
    ForeignName{"save_interval", "checkpoint.interval"},
    ForeignName{"scoring_func", "moe.router.score"},
    ForeignName{"seq_length", "data.sequence_length"},
    ForeignName{"zero_stage", "zero.stage"},
};

std::string_view our_name(std::string_view name) {
  for (const ForeignName& foreign : kForeignNames) {
    if (foreign.name == name) return foreign.path;
  }
  return "";
}

size_t depth(const Key& key) { return std::ranges::count(key.path(), '.'); }

/// A name that several sections have is meant where it lies nearest to the top.
Suggestion belongs_elsewhere(std::vector<Key> homes) {
  const size_t nearest_to_top = depth(*std::ranges::min_element(homes, {}, depth));
  std::erase_if(homes, [&](const Key& home) { return depth(home) > nearest_to_top; });
  std::vector<std::string> sections;
  sections.reserve(homes.size());
  for (const Key& home : homes) {
    sections.push_back(home.section.empty() ? "the top level" : "`" + home.section + "`");
  }
  const std::string path = homes.front().path();
  return {path, "; it belongs to " + join(sections, " or ") + ": write `" + path + "`"};
}

std::string names_in(const std::string& section) {
  std::vector<std::string> names;
  for (const Key& key : all_keys()) {
    if (key.section == section) names.push_back(key.name);
  }
  return "; " + (section.empty() ? "a config" : "`" + section + "`") + " has " + join(names, ", ");
}

}  // namespace

const std::vector<Key>& all_keys() {
  static const std::vector<Key> keys = collect_keys();
  return keys;
}

Suggestion suggest_key(const std::string& section, const std::string& name) {
  std::vector<Key> homes;
  const Key* closest = nullptr;
  size_t smallest = typing_slack(name) + 1;
  for (const Key& key : all_keys()) {
    if (key.name == name) homes.push_back(key);
    const bool here = key.section == section;
    const size_t distance = edit_distance(name, key.name) + (here ? 0 : 1);
    const bool tie = closest != nullptr && distance == smallest;
    if (distance < smallest || (tie && here && closest->section != section)) {
      smallest = distance;
      closest = &key;
    }
  }
  const bool nearer_here = closest != nullptr && closest->section == section && smallest <= 1;
  if (!homes.empty() && !nearer_here) return belongs_elsewhere(homes);
  const std::string ours(our_name(name));
  if (!ours.empty()) return {ours, "; here it is `" + ours + "`"};
  if (closest == nullptr) return {"", names_in(section)};
  return {closest->path(), "; did you mean `" + closest->path() + "`?"};
}

}  // namespace switchyard
