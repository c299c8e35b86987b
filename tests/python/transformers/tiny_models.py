"""Tiny random models of every family, as transformers saves them."""

import tokenizers
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

COMMON = dict(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
              intermediate_size=48, max_position_embeddings=64, initializer_range=0.1, rms_norm_eps=1e-5,
              rope_parameters={"rope_type": "default", "rope_theta": 5000.0}, bos_token_id=1, eos_token_id=2,
              pad_token_id=0, head_dim=8)
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}
EXPERTS = dict(moe_intermediate_size=24, num_experts=4, num_experts_per_tok=2)
GLM = dict(moe_intermediate_size=24, n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1,
           first_k_dense_replace=1, use_qk_norm=True)

# Name: (family, what it has otherwise than COMMON, dtype, most bytes of a file).
MODELS = {
    "llama": ("llama", {}, "float32", "1GB"),
    "llama_tied_bf16": ("llama", dict(tie_word_embeddings=True, rope_parameters=LLAMA3), "bfloat16", "20KB"),
    "llama_biases": ("llama", dict(attention_bias=True, num_key_value_heads=1), "float16", "1GB"),
    "mistral": ("mistral", dict(sliding_window=None), "float32", "1GB"),
    "mistral_window": ("mistral", dict(sliding_window=6, head_dim=16), "bfloat16", "1GB"),
    "qwen2": ("qwen2", {}, "float32", "15KB"),
    "qwen2_tied": ("qwen2", dict(tie_word_embeddings=True, num_key_value_heads=4), "float16", "1GB"),
    "qwen3": ("qwen3", dict(head_dim=16), "float32", "1GB"),
    "qwen3_tied": ("qwen3", dict(tie_word_embeddings=True), "bfloat16", "15KB"),
    "mixtral": ("mixtral", dict(num_local_experts=4, num_experts_per_tok=2, sliding_window=None), "float32", "30KB"),
    "mixtral_top1": ("mixtral", dict(num_local_experts=6, num_experts_per_tok=1, sliding_window=None, head_dim=16,
                                     tie_word_embeddings=True), "bfloat16", "1GB"),
    "qwen2_moe": ("qwen2_moe", dict(**EXPERTS, shared_expert_intermediate_size=40), "float32", "1GB"),
    "qwen2_moe_sum1": ("qwen2_moe", dict(**EXPERTS, shared_expert_intermediate_size=24, norm_topk_prob=True,
                                         mlp_only_layers=[0]), "float16", "20KB"),
    "qwen3_moe": ("qwen3_moe", dict(**EXPERTS, norm_topk_prob=True), "float32", "30KB"),
    "qwen3_moe_dense": ("qwen3_moe", dict(**EXPERTS, num_hidden_layers=3, decoder_sparse_step=2, norm_topk_prob=False,
                                          tie_word_embeddings=True), "bfloat16", "1GB"),
    "olmoe": ("olmoe", dict(num_experts=4, num_experts_per_tok=2, norm_topk_prob=False), "float32", "1GB"),
    "olmoe_sum1": ("olmoe", dict(num_experts=4, num_experts_per_tok=3, norm_topk_prob=True, num_key_value_heads=4),
                   "float16", "1GB"),
    "glm4_moe": ("glm4_moe", dict(**GLM, num_hidden_layers=3), "float32", "30KB"),
    "glm4_moe_groups": ("glm4_moe", {**GLM, "n_routed_experts": 8, "n_group": 4, "topk_group": 2, "use_qk_norm": False,
                                     "attention_bias": True, "routed_scaling_factor": 1.7, "head_dim": 16,
                                     "rope_parameters": {**COMMON["rope_parameters"], "partial_rotary_factor": 0.5}},
                        "bfloat16", "1GB"),
}


# One of each family has a tokenizer, and room for its tokens.
WITH_TOKENIZER = [name for name, (family, *_) in MODELS.items() if name == family]
CHAT = "{% for m in messages %}<|user|>{{ m['content'] }}<|endoftext|>{% endfor %}"


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


def save_tiny(name, folder, seed=0, **changed):
    """No parameter has the value that it is initialised with: not the norms', not the biases'."""
    family, special, dtype, shard = MODELS[name]
    settings = {**COMMON, **special, **changed}
    if name in WITH_TOKENIZER:
        settings["vocab_size"] = 300
    if family == "olmoe":
        settings.pop("head_dim")
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings))
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(0.1 * torch.randn_like(tensor))
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shard)
    return folder
