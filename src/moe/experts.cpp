#include "moe/experts.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "ops/grouped_matmul.h"
#include "ops/swiglu_experts.h"

namespace switchyard {

Experts::Experts(ParameterStore& store, const std::string& prefix, int64_t first, int64_t count,
                 int64_t hidden_size, int64_t intermediate_size, Ffn ffn,
                 const InitialExperts& start, Recompute recompute)
    : ffn_(ffn), recompute_(recompute) {
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
                            const InnerDropout& drop) const {
  const bool again = recompute_ == Recompute::kExperts;
  if (ffn_ == Ffn::kSwiGlu && !drop && fits_swiglu_experts(x_RD, in_LFD_, down_LDF_)) {
    return swiglu_experts(x_RD, in_LFD_, down_LDF_, rows_L,
                          again ? Inner::kMadeAgain : Inner::kKept);
  }
  if (!again) return composed(x_RD, rows_L, drop);
  const Piece piece = [this, rows_L, drop](const std::vector<at::Tensor>& inputs) {
    return std::vector<at::Tensor>{composed(inputs[0], rows_L, drop)};
  };
  return recomputed(piece, {x_RD})[0];
}

at::Tensor Experts::composed(const at::Tensor& x_RD, const std::vector<int64_t>& rows_L,
                             const InnerDropout& drop) const {
  at::Tensor hidden_RF = ffn_activation(grouped_matmul(x_RD, in_LFD_, rows_L), ffn_);
  if (drop) hidden_RF = drop(hidden_RF);
  return grouped_matmul(hidden_RF, down_LDF_, rows_L);
}

at::Tensor Experts::output_norms(const at::Tensor& x_TD) const {
  constexpr int64_t kTokens = 256;  // at once, so that the inner activations stay small
  const c10::NoGradGuard no_grad;
  const int64_t T = x_TD.size(0), L = in_LFD_.size(0);
  at::Tensor norms_TL = at::empty({T, L}, x_TD.options().dtype(at::kFloat));
  for (int64_t l = 0; l < L; ++l) {
    const at::Tensor in_DF = in_LFD_[l].to(at::kDouble).t();
    const at::Tensor down_FD = down_LDF_[l].to(at::kDouble).t();
    for (int64_t t = 0; t < T; t += kTokens) {
      const int64_t count = std::min(kTokens, T - t);
      const at::Tensor rows_TD = x_TD.narrow(0, t, count).to(at::kDouble);
      const at::Tensor y_TD = at::matmul(ffn_activation(at::matmul(rows_TD, in_DF), ffn_), down_FD);
      norms_TL.narrow(0, t, count).select(1, l).copy_(y_TD.square().sum(/*dim=*/1).sqrt());
    }
  }
  return norms_TL;
}

std::vector<ExpertMatrix> Experts::matrices() const {
  const int64_t F = down_LDF_.size(2);
  std::vector<ExpertMatrix> matrices;
  if (is_gated(ffn_)) matrices.push_back({"gate_proj", in_LFD_.detach().narrow(1, 0, F)});
  matrices.push_back({"up_proj", in_LFD_.detach().narrow(1, in_LFD_.size(1) - F, F)});
  matrices.push_back({"down_proj", down_LDF_.detach().transpose(1, 2)});
  return matrices;
}

}  // namespace switchyard
