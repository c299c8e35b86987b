"""Tiny random models of every family, and a tokenizer for them."""

import tokenizers
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

COMMON = dict(vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
              intermediate_size=48, max_position_embeddings=64, initializer_range=0.1, rms_norm_eps=1e-5,
              rope_parameters={"rope_type": "default", "rope_theta": 5000.0}, bos_token_id=1, eos_token_id=2,
              pad_token_id=None)
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}
LINEAR = {"rope_type": "linear", "rope_theta": 100.0, "factor": 3.0}
WINDOW = dict(use_sliding_window=True, sliding_window=5)
EVERY_LAYER = dict(layer_types=["sliding_attention"] * 2)
EXPERTS = dict(moe_intermediate_size=24, num_experts=6, num_experts_per_tok=2)
GLM = dict(moe_intermediate_size=20, n_routed_experts=6, num_experts_per_tok=2, head_dim=8)
HALF = {"rope_type": "default", "rope_theta": 5000.0, "partial_rotary_factor": 0.5}

# Name: (family, what it has otherwise than COMMON, the dtype on the disk).
MODELS = {
    "llama": ("llama", {}, "float32"),
    "llama_tied_llama3": ("llama", dict(head_dim=16, tie_word_embeddings=True, rope_parameters=LLAMA3), "float32"),
    "llama_biases": ("llama", dict(attention_bias=True, num_key_value_heads=1, rope_parameters=LINEAR), "float32"),
    "llama_half": ("llama", dict(num_key_value_heads=4, hidden_act="gelu"), "float16"),
    "mistral": ("mistral", dict(sliding_window=None, tie_word_embeddings=True), "float32"),
    "mistral_window": ("mistral", dict(sliding_window=5, head_dim=12, num_attention_heads=3, num_key_value_heads=1),
                       "float32"),
    "qwen2": ("qwen2", dict(tie_word_embeddings=True, num_key_value_heads=4), "float32"),
    "qwen2_window": ("qwen2", dict(**WINDOW, max_window_layers=0, head_dim=16), "float32"),
    "qwen3": ("qwen3", dict(head_dim=16, rope_parameters=LLAMA3), "float32"),
    "qwen3_window": ("qwen3", dict(head_dim=8, attention_bias=True, tie_word_embeddings=True, **WINDOW, **EVERY_LAYER),
                     "bfloat16"),
    "mixtral": ("mixtral", dict(num_local_experts=6, num_experts_per_tok=2, sliding_window=5, head_dim=12), "float32"),
    "mixtral_top1": ("mixtral", dict(num_local_experts=4, num_experts_per_tok=1, tie_word_embeddings=True,
                                     rope_parameters=LLAMA3), "float32"),
    "qwen2_moe": ("qwen2_moe", dict(**EXPERTS, shared_expert_intermediate_size=40), "float32"),
    "qwen2_moe_sum1": ("qwen2_moe", dict(**EXPERTS, shared_expert_intermediate_size=24, norm_topk_prob=True,
                                         qkv_bias=False, mlp_only_layers=[0], tie_word_embeddings=True), "float32"),
    "qwen2_moe_window": ("qwen2_moe", dict(**EXPERTS, shared_expert_intermediate_size=16, **WINDOW, **EVERY_LAYER),
                         "float32"),
    "qwen3_moe": ("qwen3_moe", dict(**EXPERTS, head_dim=16, norm_topk_prob=True), "float32"),
    "qwen3_moe_dense": ("qwen3_moe", dict(**EXPERTS, head_dim=8, num_hidden_layers=3, decoder_sparse_step=2,
                                          norm_topk_prob=False, attention_bias=True, **WINDOW), "float32"),
    "olmoe": ("olmoe", dict(num_experts=6, num_experts_per_tok=3, norm_topk_prob=False), "float32"),
    "olmoe_sum1": ("olmoe", dict(num_experts=4, num_experts_per_tok=2, norm_topk_prob=True, num_key_value_heads=4,
                                 attention_bias=True, tie_word_embeddings=True), "float32"),
    "glm4_moe": ("glm4_moe", dict(**GLM, num_hidden_layers=3, first_k_dense_replace=1, n_shared_experts=2,
                                  use_qk_norm=True, rope_parameters=HALF), "float32"),
    "glm4_moe_groups": ("glm4_moe", {**GLM, "n_routed_experts": 8, "n_group": 4, "topk_group": 2, "norm_topk_prob": False,
                                     "first_k_dense_replace": 0, "n_shared_experts": 1, "attention_bias": True,
                                     "routed_scaling_factor": 1.7, "head_dim": 16, "tie_word_embeddings": True,
                                     "rope_parameters": {**LINEAR, "partial_rotary_factor": 1.0}}, "float32"),
}
CHAT = "{% for m in messages %}<|user|>{{ m['content'] }}<|endoftext|>{% endfor %}"


def build(name, **changed):
    family, special, _ = MODELS[name]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **{**COMMON, **special, **changed}))
    model.set_attn_implementation("eager")
    return model


def random_model(name, **changed):
    """No tensor has the value that it is initialised with: not the norms', not the biases', not the routers' state.

    All are rounded to the dtype on the disk one by one: model.to would round the rotary frequencies as well.
    """
    torch.manual_seed(sum(map(ord, name)))
    model, dtype = build(name, **changed), getattr(torch, MODELS[name][2])
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_((tensor + 0.1 * torch.randn_like(tensor)).to(dtype))
    return model


def save_tiny(name, folder, dtype=None, shard="1GB", **changed):
    """A random model as transformers saves it: in a dtype, in files of a size."""
    model = random_model(name, **changed).to(getattr(torch, dtype or MODELS[name][2]))
    model.save_pretrained(folder, max_shard_size=shard)
    return folder


def save_tokenizer(folder, text):
    """A byte-level BPE of 300 tokens, trained on the text, with special tokens and a chat template."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|pad|>", "<|begin|>", "<|endoftext|>", "<|user|>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([text], trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", bos_token="<|begin|>", eos_token="<|endoftext|>",
        additional_special_tokens=["<|user|>"], chat_template=CHAT).save_pretrained(folder)
