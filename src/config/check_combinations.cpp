#include <algorithm>
#include <initializer_list>

#include "config/alternatives.h"
#include "config/check.h"
#include "config/join.h"
#include "config/layers.h"

namespace switchyard {
namespace {

std::string text(int64_t number) { return std::to_string(number); }

class CombinationChecker {
 public:
  CombinationChecker(const RunConfig& config, int world_size,
                     const std::function<bool(const std::string&)>& known)
      : config_(config),
        model_(config.model),
        moe_(config.moe),
        world_(world_size),
        known_(known) {}

  std::vector<Complaint> check() && {
    check_run();
    check_heads();
    check_layers();
    check_experts();
    check_world();
    check_batch();
    check_routing_group();
    check_data();
    return std::move(complaints_);
  }

 private:
  bool know(std::initializer_list<const char*> keys) const {
    return std::all_of(keys.begin(), keys.end(), [&](const char* key) { return known_(key); });
  }

  void complain(std::vector<std::string> keys, std::string text_) {
    complaints_.push_back({std::move(keys), std::move(text_)});
  }

  void check_run() {
    const std::string& name = config_.run.name;
    if (!know({"run.name"})) return;
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos) {
      complain({"run.name"}, "`run.name` is the name of a folder, without `/`; got `" + name +
                                 "` (run.dir says where it lies)");
    }
  }

  void check_heads() {
    if (!know({"model.num_attention_heads"})) return;
    const int64_t heads = model_.num_attention_heads;
    const int64_t kv_heads = model_.num_key_value_heads;
    if (know({"model.num_key_value_heads"}) && kv_heads != kAuto && heads % kv_heads != 0) {
      complain({"model.num_key_value_heads", "model.num_attention_heads"},
               "`model.num_key_value_heads` " + text(kv_heads) +
                   " does not divide `model.num_attention_heads` " + text(heads) + "; use " +
                   alternatives(divisors_near(heads, kv_heads)));
    }
    if (know({"model.head_dim", "model.hidden_size"})) check_head_dim(heads);
    const RopeScalingConfig& scaling = model_.rope_scaling;
    if (know({"model.rope_scaling.type"}) && scaling.type == "llama3" &&
        scaling.low_freq_factor >= scaling.high_freq_factor) {
      complain({"model.rope_scaling.low_freq_factor", "model.rope_scaling.high_freq_factor"},
               "`model.rope_scaling.low_freq_factor` must be below high_freq_factor");
    }
  }

  void check_head_dim(int64_t heads) {
    const std::vector<std::string> keys = {"model.head_dim", "model.hidden_size",
                                           "model.num_attention_heads"};
    const int64_t hidden = model_.hidden_size;
    const int64_t head_dim = model_.head_dim;
    const int64_t width = head_dim != kAuto ? head_dim : hidden / heads;
    const auto rotated =
        static_cast<int64_t>(static_cast<double>(width) * model_.partial_rotary_factor);
    if (know({"model.partial_rotary_factor"}) && width % 2 == 0 && rotated % 2 != 0) {
      complain({"model.partial_rotary_factor"},
               "`model.partial_rotary_factor` of a head of " + text(width) + " rotates " +
                   text(rotated) + " numbers, and RoPE turns pairs; use " +
                   alternatives(multiples_near(2, rotated)) + " / " + text(width));
    }
    if (head_dim != kAuto && head_dim % 2 != 0) {
      complain(keys, "`model.head_dim` " + text(head_dim) +
                         " is odd and RoPE turns pairs of numbers; use " +
                         alternatives(multiples_near(2, head_dim)));
    } else if (head_dim == kAuto && hidden % (2 * heads) != 0) {
      complain({"model.hidden_size", "model.num_attention_heads"},
               "`model.hidden_size` " + text(hidden) + " does not divide into " + text(heads) +
                   " heads (`model.num_attention_heads`) of an even width; use " +
                   alternatives(multiples_near(2 * heads, hidden)) + ", or give `model.head_dim`");
    }
  }

  void check_layers() {
    if (!know({"moe.layers", "model.num_hidden_layers"})) return;
    const LayerChoice choice = choose_layers(moe_.layers, model_.num_hidden_layers);
    if (!choice.error.empty()) complain({"moe.layers"}, "`moe.layers` " + choice.error);
  }

  void check_experts() {
    if (!know({"moe.num_experts"})) return;
    const int64_t experts = moe_.num_experts;
    if (know({"moe.top_k"}) && moe_.top_k > experts) {
      complain({"moe.top_k", "moe.num_experts"},
               "`moe.top_k` " + text(moe_.top_k) + " is more than `moe.num_experts` " +
                   text(experts) + "; use at most " + text(experts));
    }
    const int64_t degree = config_.parallel.expert;
    if (know({"parallel.expert"}) && experts % degree != 0) {
      complain({"parallel.expert", "moe.num_experts"},
               "`moe.num_experts` " + text(experts) +
                   " cannot be shared out evenly to `parallel.expert` " + text(degree) +
                   " ranks; use " + alternatives(divisors_near(experts, degree)) + " ranks, or " +
                   alternatives(multiples_near(degree, experts)) + " experts");
    }
  }

  void check_world() {
    const int64_t degree = config_.parallel.expert;
    if (world_ == 0 || !know({"parallel.expert"}) || world_ % degree == 0) return;
    const std::string what = "`parallel.expert` " + text(degree);
    if (world_ == 1) {
      complain({"parallel.expert"}, what + " needs " + text(degree) +
                                        " ranks and this run has one; start it with `mpirun -n " +
                                        text(degree) + "` (or a multiple), or use 1");
      return;
    }
    std::vector<int64_t> degrees = divisors_near(world_, degree, 64);
    if (know({"moe.num_experts"})) {
      std::erase_if(degrees, [&](int64_t d) { return moe_.num_experts % d != 0; });
    }
    complain({"parallel.expert"}, what + " does not divide the world of " + text(world_) +
                                      " ranks; use " + alternatives(degrees) + ", or start " +
                                      alternatives(multiples_near(degree, world_)) + " ranks");
  }

  /// Without a known world, the batch must at least fit one rank.
  void check_batch() {
    if (!know({"train.global_batch_size", "train.micro_batch_size"})) return;
    const int64_t micro = config_.train.micro_batch_size;
    const int64_t global = config_.train.global_batch_size;
    const int64_t unit = micro * std::max<int64_t>(world_, 1);
    if (global % unit == 0) return;
    const std::string product = world_ > 1 ? text(unit) + " = " + text(world_) +
                                                 " ranks * `train.micro_batch_size` " + text(micro)
                                           : "`train.micro_batch_size` " + text(micro);
    complain({"train.global_batch_size", "train.micro_batch_size"},
             "`train.global_batch_size` " + text(global) + " is not a multiple of " + product +
                 "; use " + alternatives(multiples_near(unit, global)) + micro_way_out(global));
  }

  /// The micro-batch sizes that would fit the global batch instead, if any do.
  std::string micro_way_out(int64_t global) const {
    const int64_t ranks = std::max<int64_t>(world_, 1);
    if (global % ranks != 0) return "";
    std::vector<int64_t> sizes = divisors_near(global / ranks, config_.train.micro_batch_size, 2);
    std::erase_if(sizes, [&](int64_t size) {
      return know({"moe.group_sequences"}) && size % moe_.group_sequences != 0;
    });
    return sizes.empty() ? "" : ", or a micro-batch of " + alternatives(sizes);
  }

  void check_routing_group() {
    if (!know({"train.micro_batch_size", "moe.group_sequences"})) return;
    const int64_t micro = config_.train.micro_batch_size;
    const int64_t group = moe_.group_sequences;
    if (micro % group == 0) return;
    complain({"moe.group_sequences", "train.micro_batch_size"},
             "`train.micro_batch_size` " + text(micro) +
                 " is not a multiple of `moe.group_sequences` " + text(group) +
                 ", and a routing group lies inside one micro-batch; use groups of " +
                 alternatives(divisors_near(micro, group)) + ", or a micro-batch of " +
                 alternatives(multiples_near(group, micro)));
  }

  void check_data() {
    if (!know({"data.path"})) return;
    for (size_t i = 0; i < config_.data.path.size(); ++i) {
      if (!config_.data.path[i].path.empty()) continue;
      const std::string item = item_key("data.path", i, config_.data.path.size());
      complain({item},
               "`" + item + "` has no folder; give the one that `switchyard prepare` wrote");
    }
  }

  const RunConfig& config_;
  const ModelConfig& model_;
  const MoeConfig& moe_;
  const int64_t world_;
  const std::function<bool(const std::string&)>& known_;
  std::vector<Complaint> complaints_;
};

}  // namespace

std::vector<Complaint> check_combinations(const RunConfig& config, int world_size,
                                          const std::function<bool(const std::string&)>& known) {
  std::vector<Complaint> complaints = CombinationChecker(config, world_size, known).check();
  for (Complaint& complaint : check_routing(config.moe, known)) {
    complaints.push_back(std::move(complaint));
  }
  return complaints;
}

}  // namespace switchyard
