#include "train/upcycle_receipt.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <cstdio>
#include <numeric>

#include "base/error.h"
#include "config/join.h"
#include "loss/cross_entropy.h"
#include "metrics/console.h"
#include "model/model_size.h"
#include "train/snapshot.h"
#include "train/train_step.h"

// T tokens of this rank's sequences, V vocabulary.

namespace switchyard {
namespace {

using at::Tensor;
using nlohmann::ordered_json;

constexpr int64_t kSequenceLength = 256;

/// This rank's sequences of the sample: each begins with the last target of the one before.
SampleBatch sequences_of(const SampleTokens& sample, int rank, int world_size) {
  const auto targets = static_cast<int64_t>(sample.tokens.size()) - 1;
  SampleBatch batch;
  batch.length = std::min(kSequenceLength, targets);
  const int64_t total = (targets + batch.length - 1) / batch.length;
  const int64_t begin = total * rank / world_size, end = total * (rank + 1) / world_size;
  batch.count = end - begin;
  for (int64_t j = begin; j < end; ++j) {
    for (int64_t s = 0; s <= batch.length; ++s) {
      const auto at = static_cast<size_t>(j * batch.length + s);
      batch.tokens.push_back(at < sample.tokens.size() ? sample.tokens[at] : sample.eos);
    }
    batch.order.push_back(j);
    batch.ids.push_back(static_cast<uint64_t>(j));
    batch.source.push_back(0);
    batch.valid.push_back(std::min(batch.length, targets - j * batch.length));
  }
  return batch;
}

struct Trial {
  Tensor logits_TV;  // float32, zero where there is only padding
  double loss_sum = 0;
  int64_t tokens = 0;  // of this rank
};

/// The model of `tensors` on this rank's sequences. Collective.
Trial try_model(const Runtime& runtime, RunConfig config, TensorSource& tensors,
                const SampleTokens& sample) {
  config.train.device = "cpu";
  config.train.precision = "fp32";
  config.train.threads = kAuto;
  config.train.device = "cpu";
  config.parallel.expert =
      std::gcd(static_cast<int64_t>(runtime.world_size()), config.moe.num_experts);
  Session session(runtime, config, Purpose::kInference);
  load_tensors(session, tensors, Restore::kWeights);
  const c10::NoGradGuard no_grad;
  const SampleBatch samples = sequences_of(sample, runtime.rank(), runtime.world_size());
  const MicroBatch batch = make_eval_batch(samples, session.config(), sample.eos);
  const Tensor& valid_BS = batch.input.valid_BS;
  const Tensor logits_TV =
      session.decoder().logits(session.decoder().forward(batch.input).hidden_TD);
  return {logits_TV.to(at::kFloat).masked_fill(valid_BS.reshape({-1, 1}).logical_not(), 0),
          cross_entropy_sum(logits_TV, batch.targets_T).item<double>(),
          valid_BS.sum().item<int64_t>()};
}

/// Sums over the job. Collective.
class Sums {
 public:
  explicit Sums(const Runtime& runtime) : world_(std::move(runtime.make_mesh({}).world)) {}
  std::vector<double> operator()(const std::vector<double>& mine, ReduceOp op) const {
    Tensor all = at::tensor(mine, at::kDouble);
    world_->all_reduce(all, op, "the receipt of upcycling");
    return {all.data_ptr<double>(), all.data_ptr<double>() + all.numel()};
  }

 private:
  std::unique_ptr<Communicator> world_;
};

double sum_of_squares(const Tensor& values) {
  const double norm = at::norm(values, 2, at::kDouble).item<double>();
  return norm * norm;
}

double largest(const Tensor& values) {
  return values.numel() == 0 ? 0.0 : values.abs().max().item<double>();
}

void count_parameters(const RunConfig& before, const RunConfig& after, UpcycleReceipt& receipt) {
  const auto size_of = [](const RunConfig& config) {
    return model_size(config.model, config.moe, config.data.sequence_length);
  };
  receipt.parameters_before = size_of(before).total_parameters();
  receipt.parameters_total = size_of(after).total_parameters();
  receipt.parameters_active = size_of(after).active_parameters;
}

/// The flags, defaults filled in.
ordered_json flags_json(const UpcycleOptions& options, size_t num_sources) {
  ordered_json flags;
  if (options.method == UpcycleMethod::kAverage) {
    const std::vector<double> alike(num_sources, 1.0);
    flags["weights"] = options.weights.empty() ? alike : options.weights;
    return flags;
  }
  flags["num_experts"] = *options.num_experts;
  flags["top_k"] = *options.top_k;
  flags["layers"] = options.layers;
  flags["granularity"] = options.granularity.value_or(1);
  flags["scaling"] = to_string(options.scaling);
  flags["normalize"] = options.normalize;
  flags["router_score"] = options.sigmoid ? "sigmoid" : "softmax";
  flags["router_init_std"] = options.router_init_std;
  if (options.method == UpcycleMethod::kDrop)
    flags["drop_ratio"] = options.drop_ratio.value_or(kDefaultDropRatio);
  if (options.method == UpcycleMethod::kNoise)
    flags["noise_std"] = options.noise_std.value_or(kDefaultNoiseStd);
  flags["shared_expert"] = options.shared_expert;
  flags["shared_gate"] = options.shared_gate;
  flags["optimizer_state"] = options.optimizer_state == OptimizerState::kCarry ? "carry" : "drop";
  flags["seed"] = options.seed;
  return flags;
}

std::string number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

}  // namespace

UpcycleReceipt measure_receipt(const Runtime& runtime, const std::vector<ModelSource>& sources,
                               const UpcycledModel& upcycled, const SampleTokens& sample) {
  UpcycleReceipt receipt;
  count_parameters(sources.front().config, upcycled.model.config, receipt);
  if (sample.tokens.empty()) return receipt;
  receipt.sample = sample.origin;
  const Sums sums(runtime);
  const auto mean_loss = [&](const Trial& trial) {
    const std::vector<double> all =
        sums({trial.loss_sum, static_cast<double>(trial.tokens)}, ReduceOp::kSum);
    receipt.tokens = static_cast<int64_t>(all[1]);
    return all[0] / all[1];
  };
  Tensor first_TV;
  for (const ModelSource& source : sources) {
    const Trial trial = try_model(runtime, source.config, *source.tensors, sample);
    if (!first_TV.defined()) first_TV = trial.logits_TV;
    receipt.loss_before.push_back(mean_loss(trial));
  }
  const double before_squares = sum_of_squares(first_TV);
  const Trial after = try_model(runtime, upcycled.model.config, *upcycled.model.tensors, sample);
  receipt.loss_after = mean_loss(after);
  const Tensor difference_TV = first_TV.sub_(after.logits_TV);
  const std::vector<double> squares =
      sums({sum_of_squares(difference_TV), before_squares}, ReduceOp::kSum);
  receipt.relative_logit_difference = std::sqrt(squares[0] / squares[1]);
  receipt.max_logit_difference = sums({largest(difference_TV)}, ReduceOp::kMax)[0];
  return receipt;
}

ordered_json receipt_json(const UpcycleReceipt& receipt, const UpcycleOptions& options,
                          const std::vector<ModelSource>& sources, const UpcycledModel& upcycled) {
  ordered_json json;
  json["method"] = to_string(options.method);
  json["sources"] = ordered_json::array();
  for (const ModelSource& source : sources) json["sources"].push_back(source.path());
  json["flags"] = flags_json(options, sources.size());
  json["tokens"] = receipt.tokens;
  if (receipt.tokens > 0) {
    json["sample"] = receipt.sample;
    json["max_logit_difference"] = receipt.max_logit_difference;
    json["relative_logit_difference"] = receipt.relative_logit_difference;
    json["loss_before"] = receipt.loss_before.front();
    if (sources.size() > 1) json["losses_before"] = receipt.loss_before;
    json["loss_after"] = receipt.loss_after;
  }
  json["parameters_before"] = receipt.parameters_before;
  json["parameters_total"] = receipt.parameters_total;
  json["parameters_active"] = receipt.parameters_active;
  json["remarks"] = upcycled.remarks;
  return json;
}

std::string receipt_text(const ordered_json& receipt) {
  const auto count = [&](const char* key) { return grouped(receipt.at(key).get<int64_t>()); };
  const auto real = [&](const char* key, const char* format) {
    return number(format, receipt.at(key).get<double>());
  };
  const std::string made = "method       " + receipt.at("method").get<std::string>() + " of " +
                           join(receipt.at("sources").get<std::vector<std::string>>(), ", ") +
                           "\nparameters   " + count("parameters_before") + " -> " +
                           count("parameters_total") + ", active per token " +
                           count("parameters_active") + "\n";
  if (!receipt.contains("sample")) return made + "sample       none: not measured\n";
  return made + "sample       " + count("tokens") +
         " tokens: " + receipt.at("sample").get<std::string>() + "\nloss         " +
         real("loss_before", "%.6f") + " -> " + real("loss_after", "%.6f") +
         "\nlogits       differ by at most " + real("max_logit_difference", "%.3g") +
         " (relative norm " + real("relative_logit_difference", "%.3g") + ")\n";
}

}  // namespace switchyard
