"""inspect --routing of a Hugging Face folder, against transformers' forward pass and scipy's rank correlation."""

import json

import numpy as np
import pytest
import scipy
import torch
import transformers
from runs import TEXT, files_in, prepare, switchyard
from tiny_models import random_model

SEQUENCE, SEQUENCES = 32, 24


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare(TEXT, tmp_path_factory.mktemp("data") / "bytes")


def moe_blocks(model):
    """The MoE blocks by decoder layer."""
    blocks = {}
    for name, module in model.named_modules():
        if hasattr(module, "experts") and hasattr(module, "gate"):
            blocks[int(name.split(".")[2])] = module
    return blocks


def inputs_of(model, tokens):
    """What went into each MoE block: (T, D) by layer."""
    seen, hooks = {}, []
    for layer, block in moe_blocks(model).items():
        hooks.append(block.register_forward_pre_hook(lambda _, args, l=layer: seen.update({l: args[0].flatten(0, -2)})))
    with torch.no_grad():
        model(tokens)
    for hook in hooks:
        hook.remove()
    return seen


def expected_of(block, x, top_k, sigmoid):
    """The layer's numbers, written as loops over tokens and experts."""
    logits = x @ block.gate.weight.T
    scores = logits.sigmoid() if sigmoid else logits.softmax(1)
    probs = scores / scores.sum(1, keepdim=True)
    bias = block.gate.e_score_correction_bias if sigmoid else 0
    chosen = (scores + bias).topk(top_k, 1).indices
    counts = torch.bincount(chosen.flatten(), minlength=len(logits[0])).double()
    norms = []
    for gate_up, down in zip(block.experts.gate_up_proj.double(), block.experts.down_proj.double()):
        gate, up = (x.double() @ gate_up.T).chunk(2, dim=1)
        norms.append(((torch.nn.functional.silu(gate) * up) @ down.T).norm(dim=1))
    norms = torch.stack(norms, 1)
    correlations = [scipy.stats.spearmanr(z, n).statistic for z, n in zip(logits.numpy(), norms.float().numpy())]
    flat = torch.cat([block.experts.gate_up_proj.flatten(1), block.experts.down_proj.flatten(1)], 1).double()
    return {"load": (counts / counts.sum()).tolist(), "max_vio": (counts.max() / counts.mean() - 1).item(),
            "entropy": torch.special.entr(probs).sum(1).mean().item(), "output_norm": norms.mean(0).tolist(),
            "dead_experts": [e for e, count in enumerate(counts) if count == 0],
            "score_norm_correlation": float(np.mean(correlations)), "expert_similarity": mean_cosine(flat),
            "router_mean": mean_cosine(block.gate.weight.double())}


def mean_cosine(x):
    cosines = torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=2)
    return ((cosines.sum() - len(x)) / (len(x) * (len(x) - 1))).item()


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe_dense", "glm4_moe"])
def test_P10_numbers_are_those_of_transformers_and_scipy(name, ranks, data, tmp_path):
    sigmoid = name == "glm4_moe"
    model = random_model(name, vocab_size=320)
    with torch.no_grad():
        for block in moe_blocks(model).values():
            block.experts.down_proj[1] *= 5  # an expert whose output is large
            if sigmoid:
                block.gate.e_score_correction_bias[4] = -9  # and one that is never chosen
    folder = tmp_path / "hf"
    model.to(torch.float32).save_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    before = files_in(tmp_path)
    batches = SEQUENCES // 8
    done = switchyard("inspect", folder, "--routing", "--data", data, "--sequence-length", SEQUENCE, "--batches", batches,
                      "--json", ranks=ranks)
    assert done.returncode == 0, done.stderr
    assert files_in(tmp_path) == before, "a folder of transformers gets no file that nobody asked for"
    told = json.loads(done.stdout)
    tokens = np.fromfile(data / "val.bin", dtype=np.uint16).astype(np.int64)[:told["tokens"]]
    inputs = inputs_of(model, torch.from_numpy(tokens).view(-1, SEQUENCE))
    blocks = moe_blocks(model)
    assert [layer["layer"] for layer in told["layers"]] == sorted(blocks)
    assert told["sampled_tokens"] == told["tokens"] == len(tokens)
    for ours in told["layers"]:
        block = blocks[ours["layer"]]
        with torch.no_grad():
            theirs = expected_of(block, inputs[ours["layer"]], model.config.num_experts_per_tok, sigmoid)
        assert ours["router_similarity"]["mean"] == pytest.approx(theirs.pop("router_mean"), abs=1e-6)
        for key, value in theirs.items():
            tolerance = 1e-3 if key == "score_norm_correlation" else 1e-4
            assert ours[key] == pytest.approx(value, abs=tolerance), key
        assert ours["dropped"] == 0 and ours["dead_experts"] == ([4] if sigmoid else [])
        assert np.argmax(ours["output_norm"]) == 1
