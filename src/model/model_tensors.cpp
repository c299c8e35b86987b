#include "model/model_tensors.h"

#include <algorithm>

#include "distributed/solo_communicator.h"
#include "model/decoder.h"

namespace switchyard {

std::vector<ModelTensor> model_tensors(const ModelConfig& model, const MoeConfig& moe) {
  const Mesh mesh{make_solo_communicator("world"), make_solo_communicator("expert"),
                  make_solo_communicator("data")};
  ParameterStore store;
  const Decoder decoder(store, model, moe, mesh, /*seed=*/0);
  std::vector<ModelTensor> tensors;
  for (const PlacedPart& placed : store.parts()) {
    tensors.push_back({placed.part.name, placed.part.shape, to_string(placed.kind)});
  }
  for (const auto& [name, state] : decoder.router_state()) {
    tensors.push_back({name, state.sizes().vec(), "state"});
  }
  std::ranges::sort(tensors, {}, &ModelTensor::name);
  return tensors;
}

}  // namespace switchyard
