#include "moe/experts.h"

#include "ops/grouped_matmul.h"

namespace switchyard {

Experts::Experts(ParameterStore& store, const std::string& prefix, int64_t first, int64_t count,
                 int64_t hidden_size, int64_t intermediate_size, Ffn ffn,
                 const InitialExperts& start)
    : ffn_(ffn) {
  const int64_t D = hidden_size, F = intermediate_size;
  const auto init_of = [&](const std::string& weight) -> Init {
    if (start.start == ExpertStart::kZeroOutput && weight == ".down_proj.weight") {
      return {Init::Type::kZeros, 0, {}};
    }
    const bool alike = start.start == ExpertStart::kIdentical;
    return {Init::Type::kNormal, start.std, alike ? prefix + ".experts.0" + weight : ""};
  };
  const auto part = [&](const std::string& expert, const std::string& weight,
                        std::vector<int64_t> shape) -> NamedPart {
    return {expert + weight, std::move(shape), init_of(weight)};
  };
  std::vector<NamedPart> in_parts, down_parts;
  for (int64_t e = first; e < first + count; ++e) {
    const std::string name = prefix + ".experts." + std::to_string(e);
    if (is_gated(ffn)) in_parts.push_back(part(name, ".gate_proj.weight", {F, D}));
    in_parts.push_back(part(name, ".up_proj.weight", {F, D}));
    down_parts.push_back(part(name, ".down_proj.weight", {D, F}));
  }
  in_LFD_ = store.add(ParameterKind::kExpert, {count, is_gated(ffn) ? 2 * F : F, D}, in_parts);
  down_LDF_ = store.add(ParameterKind::kExpert, {count, D, F}, down_parts);
}

ExpertStart parse_expert_start(const std::string& word) {
  if (word == "independent") return ExpertStart::kIndependent;
  if (word == "identical") return ExpertStart::kIdentical;
  TORCH_CHECK(word == "zero_output", "moe.expert_init: ", word);
  return ExpertStart::kZeroOutput;
}

at::Tensor Experts::forward(const at::Tensor& x_RD, const std::vector<int64_t>& rows_L,
                            const std::function<at::Tensor(const at::Tensor&)>& drop) const {
  at::Tensor hidden_RF = ffn_activation(grouped_matmul(x_RD, in_LFD_, rows_L), ffn_);
  if (drop) hidden_RF = drop(hidden_RF);
  return grouped_matmul(hidden_RF, down_LDF_, rows_L);
}

}  // namespace switchyard
