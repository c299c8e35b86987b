#include <memory>

#include "base/error.h"
#include "moe/router.h"
#include "moe/routers/gshard_router.h"
#include "moe/routers/topk_router.h"

namespace switchyard {

std::unique_ptr<Router> make_router(const MoeConfig& moe, int64_t layer) {
  const std::string& type = moe.router.type;
  if (type == "topk") return std::make_unique<TopKRouter>(moe.router, moe.top_k, layer);
  if (type == "switch") return std::make_unique<TopKRouter>(moe.router, /*top_k=*/1, layer);
  if (type == "gshard") return std::make_unique<GShardRouter>(moe.router, layer);
  throw ConfigError("moe.router.type: unknown router `" + type + "`");
}

}  // namespace switchyard
