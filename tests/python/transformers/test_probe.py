"""One MoE layer of ours, through `switchyard probe`, against transformers' own class: outputs and gradients."""

import os
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import DeepseekV2Config, MixtralConfig, Qwen2MoeConfig
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeSparseMoeBlock

CONFIG = """
data: {{path: unused, sequence_length: 16}}
model: {{vocab_size: 64, hidden_size: {hidden}, num_hidden_layers: 3, num_attention_heads: 2}}
moe:
  layers: [1]
  num_experts: {experts}
  top_k: {top_k}
  expert_intermediate_size: {width}
  router: {{normalize: {normalize}}}
  {more}
"""


def probe(folder, config, tensors, *flags, layer=1):
    (folder / "config.yaml").write_text(config)
    save_file({name: x.detach().contiguous() for name, x in tensors.items()}, folder / "in.safetensors")
    done = subprocess.run([os.environ["SWITCHYARD_BIN"], "probe", "--config", folder / "config.yaml", "--layer",
                           str(layer), "--input", folder / "in.safetensors", "--out", folder / "out.safetensors",
                           *flags], capture_output=True, text=True, timeout=120)
    return done, (load_file(folder / "out.safetensors") if done.returncode == 0 else {})


def native(block, hidden):
    """transformers' fused parameters under our names, each with its own gradient's name."""
    prefix = "model.layers.1.mlp."
    names = {}
    for name, x in block.named_parameters():
        if name == "experts.gate_up_proj":
            width = x.shape[1] // 2
            for e in range(x.shape[0]):
                names[f"{prefix}experts.{e}.gate_proj.weight"] = (x, lambda t, e=e, w=width: t[e, :w])
                names[f"{prefix}experts.{e}.up_proj.weight"] = (x, lambda t, e=e, w=width: t[e, w:])
        elif name == "experts.down_proj":
            for e in range(x.shape[0]):
                names[f"{prefix}experts.{e}.down_proj.weight"] = (x, lambda t, e=e: t[e])
        else:
            names[prefix + name] = (x, lambda t: t)
    return names


def close(ours, theirs, what):
    scale = max(theirs.abs().max().item(), 1e-6)
    assert (ours - theirs).abs().max().item() <= 1e-5 * max(scale, 1), what


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe"])
def test_C8_a_layer_is_transformers_layer(family, tmp_path):
    torch.manual_seed(3)
    if family == "mixtral":
        block = MixtralSparseMoeBlock(MixtralConfig(hidden_size=24, intermediate_size=40, num_local_experts=6,
                                                    num_experts_per_tok=2, experts_implementation="eager"))
        config = CONFIG.format(hidden=24, experts=6, top_k=2, width=40, normalize="true", more="")
    else:
        block = Qwen2MoeSparseMoeBlock(Qwen2MoeConfig(
            hidden_size=24, moe_intermediate_size=20, num_experts=5, num_experts_per_tok=3, norm_topk_prob=False,
            shared_expert_intermediate_size=32, experts_implementation="eager"))
        config = CONFIG.format(hidden=24, experts=5, top_k=3, width=20, normalize="false",
                               more="shared_experts: {num: 1, intermediate_size: 32, gated: true}")
    for x in block.parameters():
        torch.nn.init.normal_(x, std=0.3)
    x = torch.randn(1, 33, 24, requires_grad=True)
    grad_y = torch.randn(33, 24)
    y = block(x)
    y = y[0] if isinstance(y, tuple) else y
    (y.view(33, 24) * grad_y).sum().backward()

    weights = native(block, 24)
    given = {name: part(tensor) for name, (tensor, part) in weights.items()}
    done, out = probe(tmp_path, config, {**given, "x": x[0], "grad_y": grad_y})
    assert done.returncode == 0, done.stderr
    close(out["y"], y.view(33, 24).detach(), "y")
    close(out["grad_x"], x.grad[0], "grad_x")
    assert len(weights) > 10
    for name, (tensor, part) in weights.items():
        close(out["grad." + name], part(tensor.grad), name)
    assert out["kept"].all() and out["experts"].shape == out["weights"].shape
    close(out["probs"], out["logits"].softmax(-1), "probs")


@pytest.mark.parametrize("method", ["greedy", "group_limited_greedy"])
def test_R8_L7_a_layer_is_deepseek_v2s(method, tmp_path):
    torch.manual_seed(5)
    block = DeepseekV2Moe(DeepseekV2Config(
        hidden_size=24, moe_intermediate_size=20, n_routed_experts=8, num_experts_per_tok=3, n_shared_experts=2,
        topk_method=method, n_group=4, topk_group=2, routed_scaling_factor=1.5, num_attention_heads=2,
        num_key_value_heads=2, experts_implementation="eager"))
    grouped = ", n_group: 4, topk_group: 2, group_score: max" if method == "group_limited_greedy" else ""
    config = CONFIG.format(hidden=24, experts=8, top_k=3, width=20, more="shared_experts: {num: 2, "
                           "intermediate_size: 20}", normalize="false, scaling_factor: 1.5" + grouped)
    for x in block.parameters():
        torch.nn.init.normal_(x, std=0.3)
    x = torch.randn(1, 33, 24, requires_grad=True)
    grad_y = torch.randn(33, 24)
    y = block(x)
    (y.view(33, 24) * grad_y).sum().backward()
    weights = {name.replace("shared_experts", "shared_expert"): part for name, part in native(block, 24).items()}
    given = {name: part(tensor) for name, (tensor, part) in weights.items()}
    done, out = probe(tmp_path, config, {**given, "x": x[0], "grad_y": grad_y})
    assert done.returncode == 0, done.stderr
    close(out["y"], y.view(33, 24).detach(), "y")
    close(out["grad_x"], x.grad[0], "grad_x")
    assert len(weights) == 1 + 3 * 8 + 3
    for name, (tensor, part) in weights.items():
        close(out["grad." + name], part(tensor.grad), name)


def test_L4_a_layer_is_sigma_moes(tmp_path):
    """y = sum over the K best of sigmoid(z)_e relu(x W1_e) W2_e, written out (no class of transformers has it)."""
    torch.manual_seed(6)
    experts, top_k, hidden, width = 6, 2, 24, 20
    config = CONFIG.format(hidden=hidden, experts=experts, top_k=top_k, width=width, more="",
                           normalize="false, score: sigmoid").replace("num_attention_heads: 2",
                                                                      "num_attention_heads: 2, ffn: relu")
    gate = (0.3 * torch.randn(experts, hidden)).requires_grad_()
    keys = (0.3 * torch.randn(experts, width, hidden)).requires_grad_()
    values = (0.3 * torch.randn(experts, hidden, width)).requires_grad_()
    x, grad_y = torch.randn(33, hidden, requires_grad=True), torch.randn(33, hidden)
    scores = torch.sigmoid(x @ gate.t())
    chosen = torch.zeros_like(scores).scatter(1, scores.topk(top_k, 1).indices, 1.0)
    dense = torch.einsum("edf,etf->ted", values, torch.relu(torch.einsum("efd,td->etf", keys, x)))
    y = torch.einsum("te,ted->td", scores * chosen, dense)
    (y * grad_y).sum().backward()
    prefix = "model.layers.1.mlp."
    given = {prefix + "gate.weight": (gate, gate.grad)}
    for e in range(experts):
        given[f"{prefix}experts.{e}.up_proj.weight"] = (keys[e], keys.grad[e])
        given[f"{prefix}experts.{e}.down_proj.weight"] = (values[e], values.grad[e])
    done, out = probe(tmp_path, config, {**{name: pair[0] for name, pair in given.items()}, "x": x, "grad_y": grad_y})
    assert done.returncode == 0, done.stderr
    close(out["y"], y.detach(), "y")
    close(out["grad_x"], x.grad, "grad_x")
    for name, (_, gradient) in given.items():
        close(out["grad." + name], gradient, name)


def test_C3_capacity_shows_in_what_is_kept(tmp_path):
    config = CONFIG.format(hidden=8, experts=4, top_k=1, width=8, normalize="true",
                           more="capacity: {factor: 1.0, min: 1}")
    gate = torch.zeros(4, 8)
    gate[2, 0] = 1
    x = torch.zeros(8, 8)
    x[:, 0] = 1  # all tokens to expert 2, which has two places
    tensors = {"x": x, "model.layers.1.mlp.gate.weight": gate}
    _, out = probe(tmp_path, config, tensors)
    assert out["experts"].flatten().tolist() == [2] * 8
    assert out["kept"].flatten().tolist() == [True, True] + [False] * 6
    assert out["weights"].flatten().tolist() == [1, 1] + [0] * 6
    assert out["y"][2:].abs().max() == 0 and out["y"][:2].abs().max() > 0
    # All first choices on one expert: E * sum(f P) = 4 P_2; z-loss: the mean of logsumexp(logits)^2.
    logits = torch.tensor([0.0, 0, 1, 0])
    assert out["losses"].tolist() == pytest.approx(
        [4 * logits.softmax(0)[2].item(), logits.logsumexp(0).item() ** 2], rel=1e-6)
    _, out = probe(tmp_path, config, tensors, "--eval")
    assert out["kept"].all()


@pytest.mark.parametrize("change, layer, code, words", [
    ({}, 0, 2, ["--layer: 0 is no MoE layer", "it has 1"]),
    (dict(x=torch.zeros(3, 7)), 1, 3, ['"x" has the shape (3, 7)', "(-1, 8)"]),
    (dict(spare=torch.zeros(1)), 1, 3, ['"spare" is no tensor of this layer']),
    (dict(grad_y=torch.zeros(2, 8)), 1, 3, ['"grad_y" has the shape (2, 8)', "(3, 8)"]),
    ({"model.layers.1.mlp.gate.weight": torch.zeros(8, 4)}, 1, 3, ["gate.weight", "(8, 4)", "(4, 8)"]),
], ids=["layer", "x", "spare", "grad_y", "weight"])
def test_wrong_input_is_named(change, layer, code, words, tmp_path):
    config = CONFIG.format(hidden=8, experts=4, top_k=1, width=8, normalize="true", more="")
    done, _ = probe(tmp_path, config, {"x": torch.zeros(3, 8), **change}, layer=layer)
    assert done.returncode == code and all(word in done.stderr for word in words), done.stderr
    assert not (tmp_path / "out.safetensors").exists()
