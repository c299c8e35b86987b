#include <array>
#include <string_view>

#include "hf/family.h"
#include "hf/family_traits.h"

namespace switchyard {
namespace {

constexpr std::string_view kLayers = "model.layers.";
constexpr std::array<std::string_view, 3> kProjections = {"gate_proj", "up_proj", "down_proj"};
constexpr std::array<std::string_view, 3> kMixtralProjections = {"w1", "w3", "w2"};

/// The two names of one tensor behind "model.layers.N."; # is an expert's number.
struct Spelling {
  std::string native, hf;
};

std::string joined(std::string_view a, std::string_view b, std::string_view c = "") {
  return std::string(a).append(b).append(c);
}

void add_attention(const FamilyTraits& traits, std::vector<Spelling>& names) {
  const auto same = [&](const std::string& name) { names.push_back({name, name}); };
  same("input_layernorm.weight");
  same("post_attention_layernorm.weight");
  for (const char* matrix : {"q_proj", "k_proj", "v_proj"}) {
    same(joined("self_attn.", matrix, ".weight"));
    if (traits.qkv_bias || traits.qkv_bias_key != nullptr) {
      same(joined("self_attn.", matrix, ".bias"));
    }
  }
  same("self_attn.o_proj.weight");
  if (traits.output_bias) same("self_attn.o_proj.bias");
  if (std::string_view(traits.qk_norm) == "none") return;
  same("self_attn.q_norm.weight");
  same("self_attn.k_norm.weight");
}

void add_experts(const FamilyTraits& traits, std::vector<Spelling>& names) {
  const bool mixtral = traits.family == Family::kMixtral;
  names.push_back(
      {"mlp.gate.weight", mixtral ? "block_sparse_moe.gate.weight" : "mlp.gate.weight"});
  for (size_t i = 0; i < kProjections.size(); ++i) {
    const std::string native = joined("mlp.experts.#.", kProjections[i], ".weight");
    names.push_back(
        {native, mixtral ? joined("block_sparse_moe.experts.#.", kMixtralProjections[i], ".weight")
                         : native});
  }
  if (traits.sigmoid) {
    names.push_back({"mlp.gate.e_score_correction_bias", "mlp.gate.e_score_correction_bias"});
  }
}

void add_shared_expert(const FamilyTraits& traits, std::vector<Spelling>& names) {
  const bool plain = traits.shared == SharedExpert::kPlain;
  for (const std::string_view projection : kProjections) {
    names.push_back(
        {joined("mlp.shared_expert.", projection, ".weight"),
         joined(plain ? "mlp.shared_experts." : "mlp.shared_expert.", projection, ".weight")});
  }
  if (plain) return;
  names.push_back({"mlp.shared_expert_gate.weight", "mlp.shared_expert_gate.weight"});
}

std::vector<std::vector<Spelling>> make_spellings() {
  std::vector<std::vector<Spelling>> spellings;
  for (const FamilyTraits& traits : all_families()) {
    std::vector<Spelling> names;
    add_attention(traits, names);
    if (traits.moe_layers != MoeLayers::kAll) {
      for (const std::string_view projection : kProjections) {
        const std::string name = joined("mlp.", projection, ".weight");
        names.push_back({name, name});
      }
    }
    if (traits.is_moe()) add_experts(traits, names);
    if (traits.shared != SharedExpert::kNone) add_shared_expert(traits, names);
    spellings.push_back(std::move(names));
  }
  return spellings;
}

const std::vector<Spelling>& spellings_of(Family family) {
  static const std::vector<std::vector<Spelling>> spellings = make_spellings();
  return spellings[static_cast<size_t>(family)];
}

/// The number that a text begins with, as it is written; "" for none. No leading zeros:
/// two names must not be one tensor.
std::string_view leading_number(std::string_view text) {
  const std::string_view digits = text.substr(0, text.find_first_not_of("0123456789"));
  const bool canonical = digits == "0" || (!digits.empty() && digits.front() != '0');
  return canonical && digits.size() <= 9 ? digits : std::string_view();
}

/// The name by `to` of one that fits `from`.
std::optional<std::string> respell(std::string_view name, const std::string& from,
                                   const std::string& to) {
  const size_t hole = from.find('#');
  if (hole == std::string::npos) return name == from ? std::optional(to) : std::nullopt;
  if (name.substr(0, hole) != std::string_view(from).substr(0, hole)) return std::nullopt;
  const std::string_view number = leading_number(name.substr(hole));
  if (number.empty() ||
      name.substr(hole + number.size()) != std::string_view(from).substr(hole + 1))
    return std::nullopt;
  return std::string(to).replace(to.find('#'), 1, number);
}

std::optional<std::string> translate(const std::string& name, Family family,
                                     std::string Spelling::*from, std::string Spelling::*to) {
  if (name == "model.embed_tokens.weight" || name == "model.norm.weight" ||
      name == "lm_head.weight") {
    return name;
  }
  const std::string_view text = name;
  if (text.substr(0, kLayers.size()) != kLayers) return std::nullopt;
  const std::string_view layer = leading_number(text.substr(kLayers.size()));
  const size_t prefix = kLayers.size() + layer.size();
  if (layer.empty() || prefix >= text.size() || text[prefix] != '.') return std::nullopt;
  for (const Spelling& spelling : spellings_of(family)) {
    if (const auto rest = respell(text.substr(prefix + 1), spelling.*from, spelling.*to)) {
      return name.substr(0, prefix + 1) + *rest;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> hf_name(Family family, const std::string& native) {
  return translate(native, family, &Spelling::native, &Spelling::hf);
}

std::optional<std::string> native_name(Family family, const std::string& hf) {
  return translate(hf, family, &Spelling::hf, &Spelling::native);
}

}  // namespace switchyard
