"""What was trained here computes the same there: losses, texts, tokens of bytes; and the card says how it was made."""

import json
import os
import pathlib

import numpy as np
import pytest
import tokenizers
import torch
from hf_folders import VERSIONS, assert_every_key_fits, load_with, ok, raw_tensors, side_by_side
from runs import TEXT, prepare, switchyard, train_tiny
from safetensors.torch import load_file

SEQUENCE = 32
RUNS = {
    "mixtral": dict(moe__layers="all", moe__num_experts=4),
    "qwen3_moe": dict(model__qk_norm="head", model__head_dim=12, model__tie_word_embeddings="true", parallel__expert=2,
                      ranks=2),
    "glm4_moe": dict(moe__router="{score: sigmoid, selection_bias: true, scaling_factor: 1.5, bias_update_rate: 0.01}",
                     moe__shared_experts="{num: 1, intermediate_size: 48}"),
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Runs of 40 steps, each with its folder OUT/NAME/hf of the format of that name."""
    folder = tmp_path_factory.mktemp("trained")
    data = prepare(TEXT, folder / "data")

    def make(name):
        train_tiny(folder, data, name, model__init_std=0.1, train__steps=40, train__eval_interval=0,
                   checkpoint__interval=40, **RUNS[name])
        ok("export", "--checkpoint", folder / name, "--format", name, "--out", folder / name / "hf")

    side_by_side(make, RUNS)
    return folder


def sequences(trained):
    """Whole sequences of the validation split: inputs and targets."""
    tokens = np.fromfile(trained / "data/val.bin", dtype=np.uint16).astype(np.int64)
    count = (len(tokens) - 1) // SEQUENCE
    inputs, targets = (tokens[first:first + count * SEQUENCE].reshape(count, SEQUENCE) for first in (0, 1))
    return inputs[:16], targets[:16]


@pytest.fixture(scope="session")
def loaded(trained, tmp_path_factory):
    inputs, _ = sequences(trained)
    jobs = {name: {"folder": trained / name / "hf", "tokens": inputs.tolist(), "text": None} for name in RUNS}
    jobs["mixtral"]["text"] = "Bennet, caf\u00e9"
    out = tmp_path_factory.mktemp("loaded")
    return dict(zip(VERSIONS, side_by_side(lambda version: load_with(version, jobs, out / version), VERSIONS)))


@pytest.fixture(scope="session")
def evaluated(trained):
    """What `eval` says of two global batches, which are the 16 sequences."""
    flags = ("--data", trained / "data", "--batches", 2, "--json")
    outputs = side_by_side(lambda name: ok("eval", "--checkpoint", trained / name, *flags).stdout, RUNS)
    return dict(zip(RUNS, map(json.loads, outputs)))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", RUNS)
def test_transformers_has_the_loss_of_eval(name, version, trained, loaded, evaluated):
    reports, logits = loaded[version]
    assert_every_key_fits(reports[name])
    _, targets = sequences(trained)
    theirs = torch.nn.functional.cross_entropy(logits[name].flatten(0, 1), torch.tensor(targets.ravel())).item()
    ours = evaluated[name]
    assert ours["tokens"] == targets.size and ours["loss"] < 4
    assert theirs == pytest.approx(ours["loss"], abs=1e-5)


def test_what_was_exported_comes_back(trained):
    """The folder, evaluated here, and imported and exported again."""
    for which in ("mixtral", "mixtral/hf"):
        ok("export", "--checkpoint", trained / which, "--out", trained / which / "again")
    first, second = (raw_tensors(trained / which / "again") for which in ("mixtral", "mixtral/hf"))
    assert first == second


@pytest.mark.parametrize("version", VERSIONS)
def test_bytes_are_a_tokenizer(version, loaded):
    report = loaded[version][0]["mixtral"]["tokenizer"]
    assert report == {"ids": list("Bennet, caf\u00e9".encode()), "text": "Bennet, caf\u00e9", "eos": 256, "chat": None}


def test_bytes_are_bytes_in_every_text(trained):
    tokenizer = tokenizers.Tokenizer.from_file(str(trained / "mixtral/hf/tokenizer.json"))
    draw = np.random.default_rng(5)
    points = np.r_[0:0xD800, 0xE000:0x110000]
    texts = ["", "  \n\r\n\t a", TEXT.read_text()[:50_000]] + ["".join(map(chr, draw.choice(points, 50))) for _ in range(60)]
    texts.append("".join(map(chr, range(0x1000))))
    for text in texts:
        encoded = tokenizer.encode(text)
        assert encoded.ids == list(text.encode())
        assert tokenizer.decode(encoded.ids) == text
    assert tokenizer.get_vocab_size() == 257 and tokenizer.token_to_id("<|endoftext|>") == 256


def test_the_card_says_how_it_was_made(trained):
    card = (trained / "mixtral/hf/README.md").read_text()
    step = trained / "mixtral/checkpoints/step-00000040"
    state = json.loads((step / "manifest.json").read_text())["state"]
    assert card.startswith("---\nlibrary_name: transformers\n") and "MixtralForCausalLM" in card
    assert "- steps: 40\n" in card and f"- tokens: {40 * 8 * SEQUENCE:,}\n" in card
    assert f"- data fingerprint: `{state['data_fingerprint']}`" in card
    assert (step / "config.yaml").read_text() in card


def test_a_bfloat16_run_exports_its_masters(trained, tmp_path):
    """In float32 when that is asked for, and its weights as they are otherwise."""
    train_tiny(tmp_path, trained / "data", "run", train__steps=3, train__precision="bf16", moe__layers="all")
    step = tmp_path / "run/checkpoints/step-00000003"
    stored = load_file(step / "rank-00000.safetensors")
    for flags, dtype in (((), torch.bfloat16), (("--dtype", "fp32"), torch.float32)):
        out = tmp_path / str(dtype)
        ok("export", "--checkpoint", tmp_path / "run", "--format", "mixtral", "--out", out, *flags)
        exported = load_file(out / "model.safetensors")
        assert {tensor.dtype for tensor in exported.values()} == {dtype}
        name = "model.layers.1.self_attn.q_proj.weight"
        assert torch.equal(exported[name], stored[name if dtype is torch.bfloat16 else name + ".master"])
    assert not torch.equal(stored[name].float(), stored[name + ".master"])


def test_a_tokenizer_json_travels_through_training(trained, tmp_path):
    from tiny_models import save_tokenizer
    save_tokenizer(tmp_path / "tokenizer", TEXT.read_text())
    data = prepare(TEXT, tmp_path / "data", "--tokenizer", f"hf:{tmp_path}/tokenizer/tokenizer.json")
    train_tiny(tmp_path, data, "run", train__steps=1, moe__layers="none")
    out = tmp_path / "hf"
    done = ok("export", "--checkpoint", tmp_path / "run", "--out", out)
    assert done.stdout.startswith(f"{out}: llama, ") and not done.stderr
    assert (out / "tokenizer.json").read_bytes() == (tmp_path / "tokenizer/tokenizer.json").read_bytes()
    config = json.loads((out / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast" and config["eos_token"] == "<|endoftext|>"
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == 2
    assert json.loads((out / "config.json").read_text())["max_position_embeddings"] == SEQUENCE


def test_without_a_tokenizer_json_it_says_so(trained, tmp_path):
    """tiktoken's vocabularies are none."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train.bin", "train.idx", "val.bin", "val.idx"):
        os.link(trained / "data" / name, data / name)
    meta = json.loads((trained / "data/meta.json").read_text())
    (data / "meta.json").write_text(json.dumps({**meta, "tokenizer": "tiktoken:words.tiktoken"}))
    train_tiny(tmp_path, data, "run", train__steps=1, moe__layers="all")
    done = ok("export", "--checkpoint", tmp_path / "run", "--out", tmp_path / "hf")
    assert done.stderr == "warning: the model's tokenizer, tiktoken:words.tiktoken, has no tokenizer.json: none is written\n"
    assert not list((tmp_path / "hf").glob("*token*")) and pathlib.Path(tmp_path / "hf/config.json").exists()
