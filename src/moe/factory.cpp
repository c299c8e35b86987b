#include <functional>
#include <map>
#include <memory>

#include "base/error.h"
#include "moe/router.h"
#include "moe/routers/attention_router.h"
#include "moe/routers/base_router.h"
#include "moe/routers/dense_training_router.h"
#include "moe/routers/domain_router.h"
#include "moe/routers/dselect_k_router.h"
#include "moe/routers/expert_choice_router.h"
#include "moe/routers/gshard_router.h"
#include "moe/routers/hash_router.h"
#include "moe/routers/noisy_topk_router.h"
#include "moe/routers/recurrent_router.h"
#include "moe/routers/reinforce_router.h"
#include "moe/routers/sequence_router.h"
#include "moe/routers/sinkhorn_router.h"
#include "moe/routers/sparse_ot_router.h"
#include "moe/routers/sparsemixer_router.h"
#include "moe/routers/topk_router.h"

namespace switchyard {
namespace {

using Maker = std::function<std::unique_ptr<Router>(const RouterConfig&, const RouterPlace&)>;

template <typename Made>
std::unique_ptr<Router> make(const RouterConfig& config, const RouterPlace& place) {
  return std::make_unique<Made>(config, place);
}

const std::map<std::string, Maker>& makers() {
  static const std::map<std::string, Maker> all = {
      {"topk", make<TopKRouter>},
      {"group_limited", make<TopKRouter>},
      {"switch", make<TopKRouter>},
      {"gshard", make<GShardRouter>},
      {"dselect_k", make<DSelectKRouter>},
      {"attention", make<AttentionRouter>},
      {"recurrent", make<RecurrentRouter>},
      {"sparsemixer", make<SparseMixerRouter>},
      {"hash", make<HashRouter>},
      {"domain", make<DomainRouter>},
      {"sequence", make<SequenceRouter>},
      {"reinforce", make<ReinforceRouter>},
      {"dense_training", make<DenseTrainingRouter>},
      {"noisy_topk", make<NoisyTopKRouter>},
      {"expert_choice", make<ExpertChoiceRouter>},
      {"base", make<BaseRouter>},
      {"sinkhorn", make<SinkhornRouter>},
      {"sparse_ot", make<SparseOtRouter>},
  };
  return all;
}

}  // namespace

std::unique_ptr<Router> make_router(const RouterConfig& config, const RouterPlace& place) {
  const auto found = makers().find(config.type);
  if (found == makers().end()) {
    throw ConfigError("moe.router.type: unknown router `" + config.type + "`");
  }
  return found->second(config, place);
}

std::vector<std::string> router_types() {
  std::vector<std::string> types;
  for (const auto& [type, maker] : makers()) types.push_back(type);
  return types;
}

}  // namespace switchyard
