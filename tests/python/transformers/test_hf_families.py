"""Folders that transformers saves, opened and computed with here: logits and gradients, family by family."""

import json
import os
import pathlib
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import COMMON, HALF, MODELS, build, random_model

PROBE = pathlib.Path(os.environ["SWITCHYARD_BIN"]).parent / "tests" / "hf" / "hf_probe"
SEQUENCES, LENGTH = 3, 19

# What must matter: without it the same weights have other logits.
MATTERS = {
    "llama_tied_llama3": dict(rope_parameters=COMMON["rope_parameters"]),
    "llama_biases": dict(rope_parameters={"rope_type": "default", "rope_theta": 100.0}),
    "mistral_window": dict(sliding_window=None),
    "qwen2_window": dict(sliding_window=None, use_sliding_window=False),
    "mixtral": dict(sliding_window=None),
    "qwen2_moe": dict(norm_topk_prob=True),
    "qwen2_moe_window": dict(use_sliding_window=False, layer_types=["full_attention"] * 2),
    "qwen3_moe": dict(norm_topk_prob=False),
    "olmoe": dict(norm_topk_prob=True),
    "glm4_moe": dict(rope_parameters={**HALF, "partial_rotary_factor": 1.0}),
    "glm4_moe_groups": dict(n_group=1, topk_group=1),
}


def random_tokens(name):
    generator = torch.Generator().manual_seed(len(name))
    return torch.randint(COMMON["vocab_size"], (SEQUENCES, LENGTH + 1), generator=generator)


def logits_of(model, tokens):
    return model(input_ids=tokens[:, :-1]).logits.reshape(-1, COMMON["vocab_size"])


def save_gradients(model, folder):
    """Under the names that they have on the disk: as if they were the weights."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.grad)
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def reference(name, root):
    """Saves the model and its tokens; what transformers computes."""
    model, tokens = random_model(name), random_tokens(name)
    folder = root / name
    stored = build(name)
    stored.load_state_dict(model.state_dict())
    stored.to(getattr(torch, MODELS[name][2])).save_pretrained(folder)
    save_file({"tokens": tokens}, root / f"{name}.tokens.safetensors")
    logits = logits_of(model, tokens)
    loss = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].reshape(-1))
    loss.backward()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    return dict(logits=logits.detach(), loss=loss.item(), weights=weights,
                gradients=save_gradients(model, root / f"{name}.gradients"))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """{name: (what transformers computes, what Switchyard does)} of every model, in one run of the program."""
    root = tmp_path_factory.mktemp("families")
    theirs = {name: reference(name, root) for name in MODELS}
    arguments = [root / part for name in MODELS for part in (name, f"{name}.tokens.safetensors", f"{name}.ours.safetensors")]
    done = subprocess.run([PROBE, *arguments], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return {name: (theirs[name], load_file(root / f"{name}.ours.safetensors")) for name in MODELS}


def relative(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm().clamp_min(1e-12)).item()


@pytest.mark.parametrize("name", MODELS)
def test_logits(name, results):
    theirs, ours = results[name]
    assert theirs["logits"].std() > 0.1
    torch.testing.assert_close(ours["logits"], theirs["logits"], rtol=0, atol=1e-4)
    assert ours["loss"].item() == pytest.approx(theirs["loss"], abs=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_gradients(name, results):
    theirs, ours = results[name]
    gradients = {key.removeprefix("gradient."): value for key, value in ours.items() if key.startswith("gradient.")}
    expected = {key: value for key, value in theirs["gradients"].items() if "e_score_correction_bias" not in key}
    assert set(gradients) == set(expected)
    for key, value in expected.items():
        if name == "mixtral_top1" and key.endswith("gate.weight"):  # one weight that is made to sum to 1 is 1
            assert max(value.norm(), gradients[key].norm()) < 1e-6, key
        else:
            assert relative(gradients[key], value) <= 1e-4, key


@pytest.mark.parametrize("name", MATTERS)
def test_what_the_config_says_matters(name, results):
    model = build(name, **MATTERS[name])
    model.load_state_dict(results[name][0]["weights"])
    with torch.no_grad():
        others = logits_of(model, random_tokens(name))
    assert (others - results[name][0]["logits"]).abs().max() > 1e-2


@pytest.mark.parametrize("family", [name for name, (family, *_) in MODELS.items() if name == family])
def test_what_is_not_built_in_is_refused_by_name(family, tmp_path):
    build(family).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["rope_parameters"]["rope_type"] = "yarn"
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = subprocess.run([PROBE, tmp_path, "tokens", "out"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stderr == (f'{tmp_path}/config.json: "rope_parameters.rope_type" is "yarn": '
                           "Switchyard has default, linear and llama3\n")
