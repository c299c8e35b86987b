#pragma once

#include <cstdint>

#include "config/run_config.h"
#include "moe/routing.h"
#include "moe/token_context.h"

namespace switchyard {

/// Narrows `routing.kept_TK` to what `moe.capacity` allows: first the slots of each
/// expert (in training `factor`, else `eval_factor`), tokens without one being rerouted
/// where the router has further choices, then in training the budgets of groups of experts.
/// A rerouted pair has the new expert in experts_TK, and the expert's probability as its
/// weight, in the graph. gshard takes first choices first, whatever the priority.
///
/// Looks at later tokens but with priority `position` and no device budget. Local.
void drop_tokens(Routing& routing, const MoeConfig& moe, int64_t layer,
                 const TokenContext& context);

}  // namespace switchyard
