#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/safetensors.h"
#include "checkpoint/save_checkpoint.h"

namespace switchyard {

/// A whole tensor with its bytes.
struct SampleTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::string dtype;
  std::string kind;
  std::vector<unsigned char> bytes;

  int64_t elements() const { return *element_count(shape); }
  int64_t element_bytes() const { return *dtype_bits(dtype) / 8; }
};

inline SampleTensor sample_tensor(const std::string& name, std::vector<int64_t> shape,
                                  const std::string& dtype, const std::string& kind) {
  SampleTensor tensor{name, std::move(shape), dtype, kind, {}};
  tensor.bytes.resize(*tensor_bytes(dtype, tensor.shape));
  const RandomStream stream(7, name);
  for (size_t i = 0; i < tensor.bytes.size(); ++i) {
    tensor.bytes[i] = static_cast<unsigned char>(256 * stream.uniform(i));
  }
  // The exponent's highest bit, which infinities and NaNs have: those are not saved.
  for (int64_t i = 1; i <= tensor.elements(); ++i) {
    tensor.bytes[i * tensor.element_bytes() - 1] &= 0xBF;
  }
  return tensor;
}

/// Tensors of uneven sizes, of every kind, as a small model has them.
inline std::vector<SampleTensor> sample_model() {
  std::vector<SampleTensor> model;
  const auto add_parameter = [&](const std::string& name, std::vector<int64_t> shape,
                                 const std::string& kind) {
    model.push_back(sample_tensor(name, shape, "BF16", kind));
    model.push_back(sample_tensor(name + ".master", shape, "F32", kind));
    model.push_back(sample_tensor(name + ".exp_avg", shape, "F32", kind));
    model.push_back(sample_tensor(name + ".exp_avg_sq", shape, "F32", kind));
  };
  add_parameter("model.embed_tokens.weight", {31, 5}, "dense");
  add_parameter("model.norm.weight", {3}, "dense");
  add_parameter("model.layers.0.mlp.experts.0.up_proj.weight", {7, 5}, "expert");
  add_parameter("model.layers.0.mlp.experts.1.up_proj.weight", {7, 5}, "expert");
  model.push_back(
      sample_tensor("model.layers.0.mlp.gate.e_score_correction_bias", {2}, "F32", "state"));
  model.push_back(sample_tensor("loss_scale", {}, "F64", "state"));
  model.push_back(sample_tensor("nothing", {0, 4}, "F32", "state"));
  return model;
}

/// What `rank` of `world` owns when every tensor is cut into equal stretches.
inline std::vector<OwnedSlice> owned_by(int rank, int world,
                                        const std::vector<SampleTensor>& model) {
  std::vector<OwnedSlice> slices;
  for (const SampleTensor& tensor : model) {
    const int64_t begin = tensor.elements() * rank / world;
    const int64_t end = tensor.elements() * (rank + 1) / world;
    slices.push_back({tensor.name, tensor.shape, tensor.dtype, tensor.kind, begin, end,
                      tensor.bytes.data() + begin * tensor.element_bytes()});
  }
  return slices;
}

inline CheckpointInfo sample_info(int64_t step, int world) {
  CheckpointInfo info;
  info.step = step;
  info.cursor = 8 * static_cast<uint64_t>(step);
  info.config_yaml = "run: {name: sample}\n";
  info.world = world;
  info.expert_parallel = world % 2 == 0 ? 2 : 1;
  info.zero_stage = 1;
  info.state = {{"skipped_steps", 1}, {"counts", {0.1, 2.5}}};
  info.files = {{"tokenizer.json", "{\"model\": {}}"}};
  return info;
}

}  // namespace switchyard
