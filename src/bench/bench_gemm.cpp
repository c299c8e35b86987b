#include "bench/bench_gemm.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "ops/blocked_gemm.h"

namespace switchyard {
namespace {

using at::Tensor;

/// Lets float32 products of at::mm go to oneDNN (BF16: it may then round to bfloat16), or keeps
/// them with MKL (IEEE), for a scope.
class Products {
 public:
  explicit Products(at::Float32Precision precision)
      : before_(at::globalContext().float32Precision(at::Float32Backend::MKLDNN,
                                                     at::Float32Op::MATMUL)) {
    set(precision);
  }
  ~Products() { set(before_); }
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

 private:
  static void set(at::Float32Precision precision) {
    at::globalContext().setFloat32Precision(at::Float32Backend::MKLDNN, at::Float32Op::MATMUL,
                                            precision);
  }

  at::Float32Precision before_;
};

struct Way {
  std::string library;
  std::function<void()> product;
};

/// Whether oneDNN computes float32 products in float32 all the same: so without AMX. Else
/// their rate is bfloat16's, and no peak of float32.
bool onednn_keeps_float32() {
  const Tensor x = at::randn({256, 256}), w = at::randn({256, 256});
  const Tensor exact = at::mm(x.to(at::kDouble), w.to(at::kDouble));
  const Products by_onednn(at::Float32Precision::BF16);
  const Tensor error = (at::mm(x, w).to(at::kDouble) - exact).abs().max();
  return (error / exact.abs().max()).item<double>() < 1e-5;
}

/// gpu            at::mm, on a GPU
/// mkl            at::mm in float32
/// onednn         at::mkldnn_linear in float32 (its input in oneDNN's own tensor), at::mm in
///                bfloat16 where the processor multiplies that
/// mkl_widened    at::mm in float32 of bfloat16 matrices, elsewhere: at::mm in bfloat16 is up to
///                seventy times slower there
/// onednn_matmul  at::mm in float32, handed to oneDNN
std::vector<Way> ways(const GemmShape& shape, at::ScalarType dtype, c10::Device device) {
  const Tensor x = at::randn({shape.m, shape.k}).to(dtype).to(device),
               w = at::randn({shape.n, shape.k}).to(dtype).to(device);
  const Tensor y = at::empty({shape.m, shape.n}, x.options());
  const auto mm = [x, w, y] {
    Tensor out = y;
    at::mm_out(out, x, w.t());
  };
  if (!device.is_cpu()) return {{"gpu", mm}};
  if (dtype == at::kBFloat16) {
    if (multiplies_bfloat16()) return {{"onednn", mm}};
    return {
        {"mkl_widened", [x, w] { at::mm(x.to(at::kFloat), w.to(at::kFloat).t()).to(x.dtype()); }}};
  }
  std::vector<Way> all = {{"mkl", [mm] {
                             const Products by_mkl(at::Float32Precision::IEEE);
                             mm();
                           }}};
  if (!at::hasMKLDNN()) return all;
  const Tensor own = x.to_mkldnn();
  all.push_back({"onednn", [own, w] { at::mkldnn_linear(own, w); }});
  if (onednn_keeps_float32()) {
    all.push_back({"onednn_matmul", [mm] {
                     const Products by_onednn(at::Float32Precision::BF16);
                     mm();
                   }});
  }
  return all;
}

const char* name_of(at::ScalarType dtype) { return dtype == at::kFloat ? "fp32" : "bf16"; }

/// The products of a model's layers on one rank, experts evenly loaded.
void add_model(std::vector<GemmShape>& shapes, const std::string& name, const RunConfig& config,
               int world_size) {
  const int64_t D = config.model.hidden_size, F = config.moe.expert_intermediate_size;
  const int64_t sequences = config.train.global_batch_size / world_size;
  const int64_t tokens =
      std::min(sequences, config.train.micro_batch_size) * config.data.sequence_length;
  const int64_t rows = std::max<int64_t>(
      1, tokens * config.parallel.expert * config.moe.top_k / config.moe.num_experts);
  const int64_t heads = config.model.num_attention_heads + 2 * config.model.num_key_value_heads;
  shapes.push_back({name + " gate_up forward", rows, D, 2 * F});
  shapes.push_back({name + " down forward", rows, F, D});
  shapes.push_back({name + " gate_up weights", 2 * F, rows, D});
  shapes.push_back({name + " qkv forward", tokens, D, heads * config.model.head_dim});
  if (config.model.vocab_size != kAuto)
    shapes.push_back({name + " head forward", tokens, D, config.model.vocab_size});
}

}  // namespace

std::vector<GemmRate> time_gemm(Communicator& world, const GemmShape& shape, at::ScalarType dtype,
                                const Rounds& rounds) {
  const c10::NoGradGuard no_grad;
  std::vector<std::function<void()>> bodies;
  std::vector<int64_t> calls;
  const std::vector<Way> all = ways(shape, dtype, rounds.device);
  for (const Way& way : all) {
    const int64_t n = repeats(world, way.product, 5e-3, rounds.device);
    calls.push_back(n);
    bodies.emplace_back([&way, n] {
      for (int64_t i = 0; i < n; ++i) way.product();
    });
  }
  const std::vector<Samples> samples = time_in_turn(world, rounds, bodies);
  std::vector<GemmRate> rates;
  for (size_t i = 0; i < all.size(); ++i) {
    const double work = 2.0 * static_cast<double>(shape.m * shape.k * shape.n) *
                        static_cast<double>(calls[i]) * world.size();
    rates.push_back({shape, dtype, all[i].library, work / samples[i].median(),
                     work / samples[i].max(), work / samples[i].min(), samples[i].rounds(),
                     samples[i].quiet()});
  }
  return rates;
}

double gemm_peak(Communicator& world, at::ScalarType dtype, int64_t size, const Rounds& rounds) {
  double peak = 0;
  for (const GemmRate& rate : time_gemm(world, {"square", size, size, size}, dtype, rounds)) {
    peak = std::max(peak, rate.flops);
  }
  return peak;
}

std::vector<GemmShape> gemm_shapes(int64_t size, const std::optional<RunConfig>& config,
                                   int world_size) {
  std::vector<GemmShape> shapes = {{"square", size, size, size}};
  if (config) {
    add_model(shapes, config->run.name, *config, world_size);
    return shapes;
  }
  shapes.insert(shapes.end(), {{"square, half", size / 2, size / 2, size / 2},
                               {"W1 gate_up forward", 512, 256, 1024},
                               {"W1 down forward", 512, 512, 256},
                               {"W1 gate_up weights", 1024, 512, 256},
                               {"W1 qkv forward", 2048, 256, 768},
                               {"W2 gate_up forward", 256, 512, 2048},
                               {"W2 down forward", 256, 1024, 512},
                               {"W2 gate_up weights", 2048, 256, 512},
                               {"W2 qkv forward", 2048, 512, 1536},
                               {"W2 head forward", 2048, 512, 8192},
                               {"W3 gate_up forward", 64, 256, 1024},
                               {"W3 down forward", 64, 512, 256},
                               {"W3 gate_up weights", 1024, 64, 256}});
  return shapes;
}

nlohmann::json bench_gemm(Communicator& world, const std::vector<GemmShape>& shapes,
                          const Rounds& rounds) {
  nlohmann::json result = described("gemm", world);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    double peak = 0;  // of the first shape, the large square
    for (const GemmShape& shape : shapes) {
      for (const GemmRate& rate : time_gemm(world, shape, dtype, rounds)) {
        if (&shape == &shapes.front()) peak = std::max(peak, rate.flops);
        result["results"].push_back({{"shape", shape.name},
                                     {"m", shape.m},
                                     {"k", shape.k},
                                     {"n", shape.n},
                                     {"precision", name_of(dtype)},
                                     {"library", rate.library},
                                     {"gflops", rate.flops / 1e9},
                                     {"gflops_min", rate.min / 1e9},
                                     {"gflops_max", rate.max / 1e9},
                                     {"rounds", rate.rounds},
                                     {"quiet", rate.quiet}});
      }
    }
    result["peak_gflops"][name_of(dtype)] = peak / 1e9;
  }
  return result;
}

}  // namespace switchyard
