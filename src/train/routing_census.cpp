#include "train/routing_census.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <span>

// W ranks, P of them in an expert group, L MoE layers, E experts.

namespace switchyard {

void RoutingCensus::add(const std::vector<RouterRecord>& records) {
  logits_L_.resize(records.size());
  for (size_t l = 0; l < records.size(); ++l) {
    const RouterRecord& record = records[l];
    kept_E_.resize(static_cast<size_t>(record.counts.all_GE.size(1)));
    const at::Tensor experts_TK = record.experts_TK.cpu(), kept_TK = record.kept_TK.cpu();
    const int64_t* experts = experts_TK.data_ptr<int64_t>();
    const bool* kept = kept_TK.data_ptr<bool>();
    for (int64_t pair = 0; pair < kept_TK.numel(); ++pair) {
      if (kept[pair]) ++kept_E_[static_cast<size_t>(experts[pair])];
    }
    if (!record.logits_TE.defined()) continue;
    const at::Tensor logits_TE = record.logits_TE.detach().cpu().contiguous();
    logits_L_[l].add({logits_TE.data_ptr<float>(), static_cast<size_t>(logits_TE.numel())});
  }
}

std::vector<int64_t> RoutingCensus::exchanged(const Mesh& mesh) const {
  const int64_t W = mesh.world->size(), P = mesh.expert_size();
  at::Tensor world_rank_P = at::empty({P}, at::kLong);
  mesh.expert->all_gather(at::full({1}, mesh.world->rank(), at::kLong), world_rank_P,
                          "ranks of the experts");
  const auto experts_per_rank = static_cast<int64_t>(kept_E_.size()) / P;
  at::Tensor mine_W = at::zeros({W}, at::kLong), all_WW = at::empty({W * W}, at::kLong);
  for (int64_t e = 0; e < experts_per_rank * P; ++e) {
    const int64_t to = world_rank_P.data_ptr<int64_t>()[e / experts_per_rank];
    mine_W.data_ptr<int64_t>()[to] += kept_E_[static_cast<size_t>(e)];
  }
  mesh.world->all_gather(mine_W, all_WW, "exchange matrix");
  return {all_WW.data_ptr<int64_t>(), all_WW.data_ptr<int64_t>() + all_WW.numel()};
}

std::vector<Histogram> RoutingCensus::router_logits(Communicator& world) const {
  constexpr int64_t kMaxBins = 64;
  const auto L = static_cast<int64_t>(logits_L_.size());
  at::Tensor counts_LB = at::empty({L, FineHistogram::kBins}, at::kLong);
  int64_t* counts = counts_LB.data_ptr<int64_t>();
  for (const FineHistogram& layer : logits_L_) {
    counts = std::copy(layer.counts().begin(), layer.counts().end(), counts);
  }
  world.all_reduce(counts_LB, ReduceOp::kSum, "histograms of router logits");
  std::vector<Histogram> histograms;
  for (int64_t l = 0; l < L; ++l) {
    FineHistogram layer;
    const int64_t* from = counts_LB.data_ptr<int64_t>() + l * FineHistogram::kBins;
    std::copy_n(from, FineHistogram::kBins, layer.counts().begin());
    histograms.push_back(layer.coarse(kMaxBins));
  }
  return histograms;
}

}  // namespace switchyard
