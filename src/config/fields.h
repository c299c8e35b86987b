#pragma once

#include "config/rule.h"
#include "config/run_config.h"

// Every key of a config: its name, what it takes, what it means and what to do
// with it. Reading, writing, checking, help and the suggestions for a mistyped
// key are all made from these lines. Defaults and types are run_config.h's.
//
//   visit(key, value, rule, text)    a value
//   visit.section(key, value, text)  a mapping of further keys
//   visit.list(key, values, text)    one mapping, or a list of several
//   visit.layers(key, value, text)   a choice of decoder layers

namespace switchyard {

template <typename Visitor, SectionOf<RunSection> Section>
void describe(Visitor& visit, Section& run) {
  visit("name", run.name, anything(), "Name of the run; its folder is DIR/NAME.");
  visit("dir", run.dir, anything(), "Folder that holds the runs.");
  visit("seed", run.seed, at_least(0),
        "Seed of every draw: initial weights, order of the samples, jitter, dropout. The same "
        "seed gives the same numbers on any layout.");
  visit("tensorboard", run.tensorboard, anything(),
        "Write the metrics as TensorBoard events, too, under DIR/NAME/tb.");
}

template <typename Visitor, SectionOf<DataSource> Section>
void describe(Visitor& visit, Section& source) {
  visit("path", source.path, anything(), "Folder that `switchyard prepare` wrote.");
  visit("weight", source.weight, above(0).in("relative share"),
        "Share of the samples that come from here, relative to the other sources' weights.");
  visit("name", source.name, anything(),
        "Name in messages and metrics; empty: the name in the folder's meta.json.");
}

template <typename Visitor, SectionOf<DataConfig> Section>
void describe(Visitor& visit, Section& data) {
  visit.list("path", data.path,
             "The training data: a folder, or a blend as a list of {path, weight, name}.");
  visit("sequence_length", data.sequence_length, count(1).in("tokens"),
        "Tokens per sample. Activation memory grows in proportion, attention's work with the "
        "square.");
  visit("mask_documents", data.mask_documents, anything(),
        "Stop attention at document ends, so that a token sees its own document only.");
}

template <typename Visitor, SectionOf<RopeScalingConfig> Section>
void describe(Visitor& visit, Section& scaling) {
  visit("type", scaling.type, one_of({"none", "linear", "llama3"}),
        "How the rotary frequencies are stretched: all by the factor (linear), or the low ones "
        "alone (Llama 3.1).");
  visit("factor", scaling.factor, at_least(1).in("times"), "How far they are stretched.");
  visit("low_freq_factor", scaling.low_freq_factor, above(0).in("times"),
        "llama3: waves longer than original_max_position_embeddings / this are stretched in full.");
  visit("high_freq_factor", scaling.high_freq_factor, above(0).in("times"),
        "llama3: waves shorter than original_max_position_embeddings / this are left alone.");
  visit("original_max_position_embeddings", scaling.original_max_position_embeddings,
        count(1).in("tokens"), "llama3: positions that the model was first trained on.");
}

template <typename Visitor, SectionOf<ModelConfig> Section>
void describe(Visitor& visit, Section& model) {
  visit("vocab_size", model.vocab_size,
        count(1).in("tokens").or_auto("the data's, padded to a multiple of 64"),
        "Rows of the embedding table. May be larger than the data's vocabulary, not smaller.");
  visit("hidden_size", model.hidden_size, count(1).in("features"),
        "Width of the residual stream. Multiples of 64 run fastest.");
  visit("num_hidden_layers", model.num_hidden_layers, between(1, 100000).in("layers"),
        "Decoder layers.");
  visit("num_attention_heads", model.num_attention_heads, count(1).in("heads"),
        "Query heads of each attention.");
  visit("num_key_value_heads", model.num_key_value_heads,
        count(1).in("heads").or_auto("num_attention_heads"),
        "Key and value heads; must divide num_attention_heads. Fewer shrink the cache of "
        "generation (grouped-query attention).");
  visit("head_dim", model.head_dim,
        count(1).in("features").or_auto("hidden_size / num_attention_heads"),
        "Width of one head; even, because RoPE turns pairs.");
  visit("intermediate_size", model.intermediate_size, count(1).in("features"),
        "Inner width of the dense layers' feed-forward. Experts have "
        "moe.expert_intermediate_size.");
  visit("ffn", model.ffn, one_of({"swiglu", "geglu", "gelu", "relu"}),
        "Feed-forward of dense layers and experts: with a gate (swiglu, geglu: three matrices) "
        "or without (gelu, relu: two).");
  visit("dropout", model.dropout, share_below(1),
        "Share of the residual branches' outputs that is set to zero in training.");
  visit("init_std", model.init_std, above(0), "Standard deviation of the initial weights.");
  visit("rope_theta", model.rope_theta, above(0),
        "Base of the rotary position embedding; larger reaches further.");
  visit("partial_rotary_factor", model.partial_rotary_factor,
        Rule{.min = 0, .max = 1, .min_open = true}.in("share"),
        "Share of each head that is rotated; the rest has no position (GLM-4: 0.5).");
  visit.section("rope_scaling", model.rope_scaling,
                "Stretches the rotary position embedding over longer sequences than it was "
                "trained on.");
  visit("sliding_window", model.sliding_window, count(1).in("tokens").or_null("no window"),
        "Positions that a token attends to, itself included (Mistral).");
  visit("rms_norm_eps", model.rms_norm_eps, above(0), "Added to the mean square inside RMSNorm.");
  visit("qk_norm", model.qk_norm, one_of({"none", "head", "full"}),
        "RMSNorm of queries and keys: none, over each head (Qwen3), or over all heads at once "
        "(OLMoE).");
  visit("attention_bias", model.attention_bias, anything(),
        "Bias of the query, key and value projections (Qwen2).");
  visit("attention_output_bias", model.attention_output_bias, anything(),
        "Bias of attention's output projection (Llama's attention_bias has it too).");
  visit("tie_word_embeddings", model.tie_word_embeddings, anything(),
        "Use the embedding table as the output projection too.");
}

template <typename Visitor, SectionOf<NoisyTopKConfig> Section>
void describe(Visitor& visit, Section& noisy) {
  visit("noise_eps", noisy.noise_eps, at_least(0).in("logits"),
        "Least standard deviation of the learned noise on the logits.");
  visit("groups", noisy.groups, count(1).in("groups"),
        "First level of a hierarchical mixture: groups of experts, each with a gate of its own. "
        "1: flat.");
  visit("groups_per_token", noisy.groups_per_token, count(1).in("groups"),
        "Hierarchical: groups that a token goes to; in each it takes moe.top_k / this experts.");
}

template <typename Visitor, SectionOf<ExpertChoiceConfig> Section>
void describe(Visitor& visit, Section& choice) {
  visit("capacity_factor", choice.capacity_factor,
        above(0).in("experts per token").or_null("moe.top_k"),
        "Experts per token on average: each expert takes this * tokens / experts of a routing "
        "group.");
  visit("max_experts_per_token", choice.max_experts_per_token,
        count(1).in("experts").or_null("any number"), "Most experts that may take one token.");
}

template <typename Visitor, SectionOf<BaseConfig> Section>
void describe(Visitor& visit, Section& base) {
  visit("epsilon", base.epsilon, above(0),
        "How far from the best assignment the auction may stop, per token, relative to the spread "
        "of the scores.");
}

template <typename Visitor, SectionOf<SinkhornConfig> Section>
void describe(Visitor& visit, Section& sinkhorn) {
  visit("iterations", sinkhorn.iterations, count(1).in("rounds"),
        "Rounds of normalising rows and columns.");
}

template <typename Visitor, SectionOf<ReinforceConfig> Section>
void describe(Visitor& visit, Section& reinforce) {
  visit("coef", reinforce.coef, at_least(0), "Weight of the policy gradient in the loss.");
  visit("baseline_decay", reinforce.baseline_decay, share_below(1),
        "How much of the running mean loss, the baseline, a step keeps.");
}

template <typename Visitor, SectionOf<HashConfig> Section>
void describe(Visitor& visit, Section& hash) {
  visit("method", hash.method, one_of({"random", "balanced", "bigram", "previous", "position"}),
        "What is hashed: the token; the token, with frequent ones spread over the experts; the "
        "token and the one before; the one before; or the position.");
  visit("parts", hash.parts, count(1).in("parts"),
        "MultiHash: the experts are split into so many parts, each with a hash of its own that "
        "chooses one expert. Must be moe.top_k.");
}

template <typename Visitor, SectionOf<DSelectKConfig> Section>
void describe(Visitor& visit, Section& dselect) {
  visit("gamma", dselect.gamma, above(0),
        "Width of the smooth step: wider learns longer before it decides.");
  visit("entropy_coef", dselect.entropy_coef, at_least(0),
        "Weight of the selectors' entropy in the loss, which makes them decide.");
}

template <typename Visitor, SectionOf<SparseOtConfig> Section>
void describe(Visitor& visit, Section& sparse_ot) {
  visit("gamma", sparse_ot.gamma, above(0), "Weight of the plan's quadratic penalty.");
  visit("iterations", sparse_ot.iterations, count(1).in("steps"),
        "Adam steps on the dual variables.");
  visit("lr", sparse_ot.lr, above(0), "Their learning rate.");
  visit("limit", sparse_ot.limit, one_of({"expert", "token"}),
        "Whose nonzeros are limited: an expert takes so many tokens, or a token so many experts.");
  visit("weights", sparse_ot.weights, one_of({"softmax", "plan"}),
        "What scales the experts' outputs.");
}

template <typename Visitor, SectionOf<RecurrentConfig> Section>
void describe(Visitor& visit, Section& recurrent) {
  visit("hidden_size", recurrent.hidden_size, count(1).in("features"),
        "Width of the recurrent state that a token carries from layer to layer.");
}

template <typename Visitor, SectionOf<SparseMixerConfig> Section>
void describe(Visitor& visit, Section& mixer) {
  visit("eps", mixer.eps, share_below(1),
        "Half of the relative distance to the best logit beyond which an expert is out.");
  visit("version", mixer.version, one_of({"v2", "v2_star"}),
        "The estimator as published, or with the paper's correction.");
  visit("expert_gradient", mixer.expert_gradient, one_of({"algorithm1", "scaled"}),
        "Whether the random scale acts on the output's value alone (the paper's algorithm 1) or "
        "on the experts' gradient too (transformers).");
}

template <typename Visitor, SectionOf<DenseTrainingConfig> Section>
void describe(Visitor& visit, Section& dense) {
  visit("inference", dense.inference, one_of({"top_k", "threshold", "all"}),
        "Experts in evaluation and generation: the best top_k, those above a threshold, or all.");
  visit("threshold", dense.threshold, between(0, 1).in("probability"),
        "inference threshold: least probability of an expert that is used.");
}

template <typename Visitor, SectionOf<SequenceConfig> Section>
void describe(Visitor& visit, Section& sequence) {
  visit("clusters", sequence.clusters, count(1).in("clusters"), "Domains that have an embedding.");
  visit("embedding_size", sequence.embedding_size, count(1).in("features"),
        "Width of a cluster's embedding.");
  visit("temperature", sequence.temperature, above(0),
        "Divides the logits: lower decides more sharply.");
}

template <typename Visitor, SectionOf<RouterConfig> Section>
void describe(Visitor& visit, Section& router) {
  visit("type", router.type,
        one_of({"topk", "switch", "gshard", "group_limited", "noisy_topk", "expert_choice", "base",
                "sinkhorn", "reinforce", "hash", "dselect_k", "sparse_ot", "attention", "recurrent",
                "sparsemixer", "dense_training", "domain", "sequence"}),
        "topk: the K best experts (Mixtral, DeepSeek, Qwen). switch: the best one, weighted by "
        "its probability; needs top_k 1. gshard: the best, and the second by "
        "second_expert_policy; needs top_k 2. The others: docs/routers.md.");
  visit("score", router.score, one_of({"softmax", "sigmoid"}),
        "What turns the router's logits into weights (gshard: always softmax).");
  visit("normalize", router.normalize, anything(),
        "Make the weights of a token's K experts sum to 1 (topk, group_limited, attention and "
        "recurrent).");
  visit("scaling_factor", router.scaling_factor, above(0).in("times"),
        "Multiplies the experts' weights after normalizing (DeepSeek-V3: 2.5). Not with gshard.");
  visit("jitter_eps", router.jitter_eps, share_below(1),
        "The router's input is multiplied by uniform draws from 1-eps to 1+eps in training "
        "(Switch: 0.01). 0: off.");
  visit("noise_std", router.noise_std, at_least(0).in("logits"),
        "Standard deviation of normal noise on the logits in training (V-MoE: 1 / num_experts). "
        "0: off.");
  visit("logit_normalization", router.logit_normalization, at_least(0).in("logits"),
        "A token's logits are brought to mean 0 and this standard deviation (Skywork: 1). 0: off.");
  visit("expert_dropout", router.expert_dropout, share_below(1),
        "Share of the experts that a token cannot choose in training (sigma-MoE: 0.1).");
  visit("exploration", router.exploration, one_of({"argmax", "sample", "input_dropout"}),
        "switch, in training: take the best expert, draw one from the probabilities, or take the "
        "best of an input with dropout.");
  visit("input_dropout", router.input_dropout, share_below(1),
        "switch: the share that exploration input_dropout drops.");
  visit("reroute_choices", router.reroute_choices, count(0).in("experts"),
        "Next best experts that are tried for a token whose expert is full (no token left "
        "behind: 4). Needs a capacity. 0: off.");
  visit("selection_bias", router.selection_bias, anything(),
        "Balance without a loss: a bias per expert, added for the choice only and moved after "
        "each step towards even load. Set moe.balance to [] with it, or its coef low. Not with "
        "gshard.");
  visit("bias_update_rate", router.bias_update_rate, at_least(0).in("per step"),
        "How far selection_bias moves in a step.");
  visit("n_group", router.n_group, count(1).in("groups"),
        "Experts are split into so many groups, of which topk_group are searched. 1: off. Not "
        "with gshard.");
  visit("topk_group", router.topk_group, count(1).in("groups"),
        "Groups that a token may choose from.");
  visit("group_score", router.group_score, one_of({"max", "top2_sum"}),
        "A group's score: its best expert's (DeepSeek-V2) or the sum of its two best "
        "(DeepSeek-V3).");
  visit("second_expert_policy", router.second_expert_policy,
        one_of({"all", "none", "random", "threshold", "sampling"}),
        "gshard: whether the second expert is used: always, never, with a probability of twice "
        "its weight (in evaluation always), above second_threshold, or drawn from the "
        "probabilities.");
  visit("second_threshold", router.second_threshold, between(0, 1).in("share"),
        "gshard: the least weight of a second expert under policy threshold.");
  visit("normalize_gate", router.normalize_gate, one_of({"before_drop", "after_drop"}),
        "gshard: make the two weights sum to 1 before or after tokens over capacity are "
        "dropped.");
  visit.section("noisy_topk", router.noisy_topk,
                "Sparsely gated mixture with learned noise (Shazeer et al.).");
  visit.section("expert_choice", router.expert_choice,
                "Experts choose their tokens (Zhou et al.).");
  visit.section("base", router.base, "Balanced assignment (BASE layers).");
  visit.section("sinkhorn", router.sinkhorn, "Sinkhorn-balanced choices (S-BASE).");
  visit.section("reinforce", router.reinforce, "Choices learned by policy gradient (RL-R).");
  visit.section("hash", router.hash, "Choices by a hash of the token (Hash layers).");
  visit.section("dselect_k", router.dselect_k, "Smooth selectors that grow sparse (DSelect-k).");
  visit.section("sparse_ot", router.sparse_ot, "Sparsity-constrained optimal transport.");
  visit.section("recurrent", router.recurrent, "A recurrent state over the layers (RMoE).");
  visit.section("sparsemixer", router.sparsemixer,
                "Sampled experts with an estimated gradient (GRIN).");
  visit.section("dense_training", router.dense_training,
                "All experts in training, few in inference (DS-MoE).");
  visit.section("sequence", router.sequence, "One choice per sequence, by its cluster (MoCLE).");
}

template <typename Visitor, SectionOf<CapacityConfig> Section>
void describe(Visitor& visit, Section& capacity) {
  visit("factor", capacity.factor, above(0).in("even loads").or_null("dropless"),
        "Slots per expert in training, relative to an even load. 1.0 to 2.0 bounds memory and "
        "drops the overflow.");
  visit("eval_factor", capacity.eval_factor, above(0).in("even loads").or_null("dropless"),
        "The same in evaluation and generation.");
  visit("scope", capacity.scope, one_of({"group", "rank"}),
        "What the slots are counted over: a routing group (moe.group_sequences), or all tokens "
        "of a rank, for comparison only: the model then depends on the layout.");
  visit("priority", capacity.priority,
        one_of({"position", "choice", "probability", "probability_sum", "random"}),
        "Who gets a slot first: earlier tokens (causal), first choices before second ones, "
        "tokens whose best choice (or all choices together) is more probable, or a draw. All but "
        "position look at later tokens and need "
        "moe.allow_noncausal. gshard always takes choice.");
  visit("device_factor", capacity.device_factor, above(0).in("even loads").or_null("no budget"),
        "Slots of each of the router.n_group groups of experts together, relative to an even "
        "load, in training: over it, the least probable choices are dropped (DeepSeek-V2: 1.0).");
  visit("protected_fraction", capacity.protected_fraction, between(0, 1).in("share"),
        "device_factor: share of the sequences that it never drops from (DeepSeek-V2: 0.1).");
  visit("round", capacity.round, one_of({"ceil", "floor", "nearest"}),
        "How factor * K * tokens / experts becomes a whole number of slots.");
  visit("counts_k", capacity.counts_k, anything(),
        "Whether the K of top_k is in that product; Switch and mesh-tensorflow leave it out.");
  visit("min", capacity.min, count(0).in("slots"), "Least slots per expert.");
  visit("multiple_of", capacity.multiple_of, count(1).in("slots"),
        "Slots are rounded up to a multiple of this.");
}

template <typename Visitor, SectionOf<AdaptiveConfig> Section>
void describe(Visitor& visit, Section& adaptive) {
  visit("rate", adaptive.rate, at_least(0),
        "Coefficient per share of dropped tokens (Skywork-MoE: 0.2). 0: the coefficient stays.");
  visit("beta", adaptive.beta, share_below(1), "How much of the coefficient a step keeps.");
  visit("max", adaptive.max, at_least(0), "Largest coefficient that it moves towards.");
}

template <typename Visitor, SectionOf<BalanceConfig> Section>
void describe(Visitor& visit, Section& balance) {
  visit("type", balance.type,
        one_of({"switch", "gshard", "topk", "hf", "sequence", "importance", "load", "expert",
                "device", "communication", "entropy", "local_entropy", "global_entropy",
                "sparsity_l1", "mean_importance", "mutual_information"}),
        "switch: first choices (Switch eq. 4). gshard: the same, by group (GShard). topk: all K "
        "choices, 1 at balance (MegaBlocks, DeepSeek). hf: all K choices, over all layers at "
        "once, K at balance (transformers). The others: docs/routers.md.");
  visit("coef", balance.coef, at_least(0), "Weight in the loss. 0: measured, not trained.");
  visit("scope", balance.scope, one_of({"group", "global", "global_lagged", "micro_batch"}),
        "Tokens over which the load is counted: a routing group; the whole step (under "
        "accumulation by a pass that only counts); the step before; or all ranks of one "
        "micro-step, which depends on the layout.");
  visit("layer_reduce", balance.layer_reduce, one_of({"mean", "sum"}),
        "Over the MoE layers. hf ignores it.");
  visit("threshold", balance.threshold, at_least(0).in("nats"),
        "global_entropy: the entropy in nats from which on the loss is 0, ln of the experts that "
        "are enough (LIMoE). 0: always at work.");
  visit("domain", balance.domain, count(0).in("index of a source").or_null("all tokens"),
        "Only tokens of this source of data.path, counted from 0 (LIMoE's modalities).");
  visit.section("adaptive", balance.adaptive,
                "A coefficient per layer that follows the share of dropped tokens (Skywork-MoE).");
}

template <typename Visitor, SectionOf<ZLossConfig> Section>
void describe(Visitor& visit, Section& z_loss) {
  visit("coef", z_loss.coef, at_least(0), "Weight in the loss (ST-MoE: 0.001). 0: off.");
  visit("layer_reduce", z_loss.layer_reduce, one_of({"mean", "sum"}), "Over the MoE layers.");
}

template <typename Visitor, SectionOf<SharedExpertsConfig> Section>
void describe(Visitor& visit, Section& shared) {
  visit("num", shared.num, count(0).in("experts"), "Experts that every token passes. 0: none.");
  visit("intermediate_size", shared.intermediate_size, count(1).in("features"),
        "Inner width of each.");
  visit("gated", shared.gated, anything(),
        "Multiply their output by a sigmoid gate of the token (Qwen2-MoE).");
}

template <typename Visitor, SectionOf<MoeConfig> Section>
void describe(Visitor& visit, Section& moe) {
  visit.layers("layers", moe.layers,
               "Decoder layers whose feed-forward is a mixture of experts: all, none, every:N "
               "(layers N-1, 2N-1, ...), last:N, or a list of indices from 0. The others are "
               "dense.");
  visit("num_experts", moe.num_experts, count(1).in("experts"), "Experts of each MoE layer.");
  visit("top_k", moe.top_k, count(1).in("experts"), "Experts per token.");
  visit("expert_intermediate_size", moe.expert_intermediate_size, count(1).in("features"),
        "Inner width of one expert.");
  visit("allow_noncausal", moe.allow_noncausal, anything(),
        "Permit routing in which later tokens decide about earlier ones. Generation then differs "
        "from training.");
  visit("expert_dropout", moe.expert_dropout, share_below(1),
        "Dropout inside the experts (Switch, fine-tuning: 0.4).");
  visit("expert_init", moe.expert_init, one_of({"independent", "identical", "zero_output"}),
        "How experts start: each with draws of its own, all alike (V-MoE), or with an output of "
        "zero (BASE).");
  visit("group_sequences", moe.group_sequences, count(1).in("samples"),
        "Consecutive sequences that form a routing group: the unit of capacity and of the "
        "balance loss. Must divide train.micro_batch_size.");
  visit.section("router", moe.router, "How a token's experts are chosen and weighted.");
  visit.section("capacity", moe.capacity, "Slots per expert, for runs that drop tokens.");
  visit.list("balance", moe.balance, "The load-balancing loss, or a list of several. []: none.");
  visit.section("z_loss", moe.z_loss, "Keeps the router's logits small (ST-MoE).");
  visit.section("shared_experts", moe.shared_experts, "Experts beside the routed ones.");
}

template <typename Visitor, SectionOf<ParallelConfig> Section>
void describe(Visitor& visit, Section& parallel) {
  visit("expert", parallel.expert, count(1).in("ranks"),
        "Ranks that share one set of experts. Must divide moe.num_experts and the number of "
        "ranks. More saves memory and sends tokens over the network.");
  visit("order", parallel.order, one_of({"expert_inner", "data_inner"}),
        "Which ranks are neighbours: those that exchange tokens, or those that hold the same "
        "experts.");
  visit("overlap_chunks", parallel.overlap_chunks, count(1).in("chunks"),
        "Parts in which tokens are exchanged, by expert, so that a rank computes on one while the "
        "others are under way; at most the experts of a rank. 1: all at once, then compute. The "
        "numbers are the same.");
  visit("overlap_grad_reduce", parallel.overlap_grad_reduce, one_of({"auto", "on", "off"}),
        "Gradients of a decoder layer are reduced while backward computes those of the layer "
        "before, at the last micro-batch of a step; at zero.stage 2, at each. auto: with NCCL.");
  visit("overlap_param_gather", parallel.overlap_param_gather, one_of({"auto", "on", "off"}),
        "Weights of a decoder layer that other ranks have updated arrive while forward computes "
        "the layers before, at zero.stage 1 and 2. auto: with NCCL.");
  visit("gpu_transport", parallel.gpu_transport, one_of({"nccl", "mpi"}),
        "How tensors on GPUs travel: by NCCL, one rank per GPU; or through the host's memory by "
        "MPI, slower, with which several ranks may share one GPU. train.device cuda alone.");
}

template <typename Visitor, SectionOf<ZeroConfig> Section>
void describe(Visitor& visit, Section& zero) {
  visit("stage", zero.stage, between(0, 2).refuse("3", "is not built yet; use 2"),
        "What is partitioned over the ranks that hold the same weights: 0 nothing, 1 the "
        "optimizer's state, 2 the gradients too, which costs a reduction per micro-batch.");
}

template <typename Visitor, SectionOf<ScheduleConfig> Section>
void describe(Visitor& visit, Section& schedule) {
  visit("type", schedule.type, one_of({"constant", "linear", "cosine", "wsd", "inverse_sqrt"}),
        "The learning rate's course after warm-up. wsd: constant, then down over the last "
        "decay_fraction of the steps.");
  visit("warmup_steps", schedule.warmup_steps, at_least(0).in("steps"),
        "Steps in which the learning rate rises from 0 to optim.lr.");
  visit("min_lr_ratio", schedule.min_lr_ratio, between(0, 1).in("share of optim.lr"),
        "The last learning rate, as a share of optim.lr.");
  visit("decay_fraction", schedule.decay_fraction, between(0, 1).in("share of train.steps"),
        "wsd: the share of train.steps in which the learning rate falls.");
}

template <typename Visitor, SectionOf<OptimConfig> Section>
void describe(Visitor& visit, Section& optim) {
  visit("type", optim.type, one_of({"adamw"}), "The optimizer.");
  visit("lr", optim.lr, at_least(0).in("per step"), "Peak learning rate.");
  visit("betas", optim.betas, share_below(1).times(2),
        "AdamW's decay of the first and of the second moment.");
  visit("eps", optim.eps, above(0), "AdamW's epsilon.");
  visit("weight_decay", optim.weight_decay, at_least(0).in("times lr"),
        "Decoupled weight decay, of matrices only.");
  visit("grad_clip", optim.grad_clip, at_least(0),
        "Largest norm of the whole gradient. 0: no clipping.");
  visit("lr_scale", optim.lr_scale, at_least(0).in("times"),
        "Factors on the learning rate by parameter name, where * stands for any text: "
        "{\"*.mlp.gate.*\": 0.1}.");
  visit.section("schedule", optim.schedule, "The learning rate over the steps.");
}

template <typename Visitor, SectionOf<SpikeConfig> Section>
void describe(Visitor& visit, Section& spike) {
  visit("action", spike.action, one_of({"none", "skip", "rollback"}),
        "What follows: nothing; leave the update out; or go back to the last checkpoint and leave "
        "out the samples from there to behind the spike.");
  visit("window", spike.window, at_least(8).in("steps"),
        "Last steps whose mean and deviation are the measure, of loss_z and grad_norm_z in "
        "metrics.jsonl too; half of them must be there.");
  visit("sigmas", spike.sigmas, above(0).in("standard deviations"),
        "Deviations above the mean that make a spike.");
  visit("skip_steps", spike.skip_steps, at_least(0).in("steps"),
        "Steps' worth of samples behind the spike that a rollback leaves out too.");
}

template <typename Visitor, SectionOf<TrainConfig> Section>
void describe(Visitor& visit, Section& train) {
  visit("steps", train.steps, at_least(0).in("steps"), "Optimizer steps of the whole run.");
  visit("device", train.device, one_of({"cpu", "cuda"}),
        "What computes: processors, or one GPU per rank in a build with CUDA.");
  visit("threads", train.threads,
        count(1).in("threads per rank").or_auto("cores / ranks on this host"),
        "Processor threads per rank.");
  visit("global_batch_size", train.global_batch_size, count(1).in("samples"),
        "Samples per optimizer step, over all ranks. A multiple of ranks * micro_batch_size; the "
        "rest is accumulation.");
  visit("micro_batch_size", train.micro_batch_size, count(1).in("samples"),
        "Samples that one rank computes at a time. Changes speed and memory, not the result.");
  visit("precision", train.precision, one_of({"auto", "fp32", "bf16"}),
        "Arithmetic of the matrix products; auto: bf16 where the processor or GPU has it.");
  visit("recompute", train.recompute,
        one_of({"none", "experts", "layer"})
            .refuse("selective", "is called experts here; use that")
            .refuse("full", "is called layer here; use that"),
        "Activations that backward computes again instead of finding them kept: the experts' inner "
        "ones, or all of a layer but its input and routing. Saves memory, costs time, changes no "
        "result.");
  visit("eval_interval", train.eval_interval, at_least(0).in("steps"),
        "Steps between evaluations. 0: none.");
  visit("eval_batches", train.eval_batches, count(1).in("global batches"),
        "Global batches per evaluation during training.");
  visit("log_interval", train.log_interval, at_least(0).in("steps"),
        "Steps between lines of metrics.jsonl and of the console. 0: none.");
  visit("freeze", train.freeze, anything(),
        "Names of parameters that are not trained, where * stands for any text: "
        "[\"model.embed_tokens.*\"].");
  visit("max_skipped_steps", train.max_skipped_steps, at_least(0).in("steps"),
        "Steps with a non-finite gradient that are skipped before the run stops (exit 86).");
  visit("check_replicas_interval", train.check_replicas_interval, at_least(0).in("steps"),
        "Steps between comparisons of the replicated weights over the ranks. 0: none.");
  visit.section("spike", train.spike, "Steps whose loss or gradient norm jumps.");
}

template <typename Visitor, SectionOf<CheckpointConfig> Section>
void describe(Visitor& visit, Section& checkpoint) {
  visit("interval", checkpoint.interval, at_least(0).in("steps"),
        "Steps between saves; the last step also saves. 0: never.");
  visit("keep", checkpoint.keep, count(1).in("checkpoints"), "Newest checkpoints that are kept.");
  visit("async", checkpoint.async, anything(),
        "Copy what is saved to memory and write it while training goes on: one more copy of this "
        "rank's state. Off: training waits for the disk.");
  visit("read_back", checkpoint.read_back, anything(),
        "Read every byte of a save back from the disk before publishing it.");
  visit("on_failure", checkpoint.on_failure, one_of({"stop", "continue"}),
        "What a save that fails (a full disk) does to the run: stop it, or warn and try again at "
        "the next interval.");
  visit("load_from", checkpoint.load_from, anything().or_null("random weights"),
        "Checkpoint, run folder or Hugging Face folder whose weights the run starts from. Keys of "
        "model and moe that are left out come from it; those given must agree with it.");
  visit("load_optimizer_state", checkpoint.load_optimizer_state, anything(),
        "Start with load_from's AdamW moments too, if it has them. Off: they start at zero.");
}

template <typename Visitor, SectionOf<WatchdogConfig> Section>
void describe(Visitor& visit, Section& watchdog) {
  visit("timeout_seconds", watchdog.timeout_seconds, count(0).in("seconds"),
        "End the job (code 75) when a rank has made no progress for so long: no phase, step or "
        "collective began or ended. Above the longest of them: the slowest rank's forward or "
        "backward, and a pause of the file system while data is read. 0: never.");
  visit("save_timeout_seconds", watchdog.save_timeout_seconds, count(0).in("seconds"),
        "The same while a checkpoint is saved or loaded. 0: never.");
}

template <typename Visitor, SectionOf<RunConfig> Section>
void describe(Visitor& visit, Section& config) {
  visit.section("run", config.run, "Name, place and seed.");
  visit.section("data", config.data, "What is learned from.");
  visit.section("model", config.model, "The decoder.");
  visit.section("moe", config.moe, "The mixture of experts.");
  visit.section("parallel", config.parallel, "How the ranks share the work.");
  visit.section("zero", config.zero, "How the ranks share the optimizer's state.");
  visit.section("optim", config.optim, "The update.");
  visit.section("train", config.train, "Steps, batches and arithmetic.");
  visit.section("checkpoint", config.checkpoint, "Saving, and starting from a save.");
  visit.section("watchdog", config.watchdog, "Hangs and lost ranks.");
}

}  // namespace switchyard
