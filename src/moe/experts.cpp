#include "moe/experts.h"

#include "ops/grouped_matmul.h"

namespace switchyard {

Experts::Experts(ParameterStore& store, const std::string& prefix, int64_t first, int64_t count,
                 int64_t hidden_size, int64_t intermediate_size, Ffn ffn, double init_std)
    : ffn_(ffn) {
  const int64_t D = hidden_size, F = intermediate_size;
  const Init init{Init::Type::kNormal, init_std};
  std::vector<NamedPart> in_parts, down_parts;
  for (int64_t e = first; e < first + count; ++e) {
    const std::string name = prefix + ".experts." + std::to_string(e);
    if (is_gated(ffn)) in_parts.push_back({name + ".gate_proj.weight", {F, D}, init});
    in_parts.push_back({name + ".up_proj.weight", {F, D}, init});
    down_parts.push_back({name + ".down_proj.weight", {D, F}, init});
  }
  in_LFD_ = store.add(ParameterKind::kExpert, {count, is_gated(ffn) ? 2 * F : F, D}, in_parts);
  down_LDF_ = store.add(ParameterKind::kExpert, {count, D, F}, down_parts);
}

at::Tensor Experts::forward(const at::Tensor& x_RD, const std::vector<int64_t>& rows_L,
                            const std::function<at::Tensor(const at::Tensor&)>& drop) const {
  at::Tensor hidden_RF = ffn_activation(grouped_matmul(x_RD, in_LFD_, rows_L), ffn_);
  if (drop) hidden_RF = drop(hidden_RF);
  return grouped_matmul(hidden_RF, down_LDF_, rows_L);
}

}  // namespace switchyard
