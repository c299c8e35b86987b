"""Evaluation and generation: the same on every world, whole splits, cached and uncached, drawn as asked."""

import json
import math

import pytest
from conftest import TEXT, prepare, records, switchyard, train_tiny

PROMPT = "It is a truth universally acknowledged"


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    """A run of 60 steps, whose routing is spread over the experts."""
    folder = tmp_path_factory.mktemp("runs")
    train_tiny(folder, data, "run", model__init_std=0.1, train__steps=60, checkpoint__interval=30)
    return folder / "run"


def evaluate(checkpoint, data, *flags, ranks=1):
    done = switchyard("eval", "--checkpoint", checkpoint, "--data", data, "--json", *flags, ranks=ranks)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def generate(run, *flags, prompt=PROMPT, ranks=1):
    done = switchyard("generate", "--checkpoint", run, "--prompt", prompt, *flags, ranks=ranks)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(prompt) and done.stdout.endswith("\n")
    return done.stdout[:-1]


def tokens_in(data, split):
    return (data / f"{split}.bin").stat().st_size // 2


# 1499 tokens: two sequences of the split, so that ranks are left without any.
@pytest.mark.parametrize("flags", [(), ("--sequence-length", 1499), ("--batches", 3)], ids=["run's", "long", "part"])
def test_eval_is_the_same_on_every_world(flags, run, data):
    results = [evaluate(run, data, *flags, ranks=ranks) for ranks in (1, 2, 4)]
    for result in results:
        assert set(result) == {"step", "split", "loss", "perplexity", "bits_per_byte", "tokens"}
        assert result["loss"] == pytest.approx(results[0]["loss"], rel=1e-6)
        assert result["step"] == 60 and result["split"] == "val"
        assert result["perplexity"] == pytest.approx(math.exp(result["loss"]))
    tokens = 3 * 8 * 32 if "--batches" in flags else tokens_in(data, "val") - 1
    assert [result["tokens"] for result in results] == [tokens] * 3


def test_bits_per_byte_of_bytes_is_the_loss_over_ln_2(run, data):
    splits = {split: evaluate(run, data, "--split", split) for split in ("train", "val")}
    assert splits["train"]["bits_per_byte"] == pytest.approx(splits["train"]["loss"] / math.log(2), rel=1e-9)
    # The end of text is a token of the last split, and no byte.
    tokens = tokens_in(data, "val")
    assert splits["val"]["bits_per_byte"] == pytest.approx(splits["val"]["loss"] / math.log(2) * tokens / (tokens - 1))


def test_eval_reads_what_training_logged(run, data):
    logged = records(run)[1][-1]
    assert evaluate(run, data, "--batches", 2)["loss"] == pytest.approx(logged["loss"], rel=1e-6)
    step = run / "checkpoints/step-00000030"
    assert evaluate(step, data)["step"] == 30 and evaluate(step, data)["loss"] > evaluate(run, data)["loss"]


def test_a_sequence_longer_than_the_split_is_the_split(run, data):
    whole = evaluate(run, data, "--sequence-length", tokens_in(data, "val") - 1)
    assert evaluate(run, data, "--sequence-length", 1_000_000) == whole


def test_eval_prints_a_line_without_json(run, data):
    done = switchyard("eval", "--checkpoint", run, "--data", data, ranks=2)
    assert done.returncode == 0 and done.stdout.startswith("eval val 60/60 | loss ") and done.stdout.count("\n") == 1


def test_eval_of_data_of_another_tokenizer_is_refused(run, data, tmp_path):
    other = prepare(TEXT, tmp_path / "other")
    meta = json.loads((other / "meta.json").read_text())
    for change in ({"vocab_size": 258}, {"eos": 10}, {"tokenizer": "hf:words"}):
        (other / "meta.json").write_text(json.dumps({**meta, **change}))
        done = switchyard("eval", "--checkpoint", run, "--data", other)
        assert done.returncode == 2 and "was prepared with another tokenizer" in done.stderr, done.stderr
        assert f"prepare it with that of {run}" in done.stderr


def test_greedy_text_is_the_same_on_every_world(run):
    texts = [generate(run, "--temperature", 0, "--max-new-tokens", 48, ranks=ranks) for ranks in (1, 2, 4)]
    assert len(texts[0]) > len(PROMPT) and len(set(texts)) == 1
    assert generate(run, "--temperature", 0.7, "--top-k", 1, "--max-new-tokens", 48) == texts[0]
    assert generate(run, "--top-p", 1e-6, "--max-new-tokens", 48) == texts[0]


def test_the_cache_changes_nothing(run):
    """Token by token from a new prompt each time, without a cache."""
    expected = generate(run, "--temperature", 0, "--max-new-tokens", 6)
    text = PROMPT
    while len(text) < len(expected):
        text = generate(run, "--temperature", 0, "--max-new-tokens", 1, prompt=text)
    assert text == expected


def test_draws_follow_the_seed(run):
    flags = ("--temperature", 0.8, "--top-k", 20, "--top-p", 0.9, "--max-new-tokens", 24)
    texts = [generate(run, *flags, "--seed", seed, ranks=ranks) for seed, ranks in ((1, 1), (1, 2), (2, 1), (2, 4), (3, 1))]
    assert texts[0] == texts[1] and texts[2] == texts[3] and len(set(texts)) == 3


def test_a_model_that_looks_ahead_is_refused_unless_asked_for(data, tmp_path):
    train_tiny(tmp_path, data, "ahead", moe__router="{type: expert_choice}", moe__allow_noncausal="true", train__steps=2)
    commands = {"eval": ["--data", data, "--batches", 1], "generate": ["--prompt", PROMPT, "--max-new-tokens", 2]}
    for command, flags in commands.items():
        refused = switchyard(command, "--checkpoint", tmp_path / "ahead", *flags)
        assert refused.returncode == 2 and refused.stdout == ""
        for words in ("expert_choice decides over all tokens of a routing group", "--allow-noncausal"):
            assert refused.stderr.count(words) == 1, refused.stderr
        allowed = switchyard(command, "--checkpoint", tmp_path / "ahead", *flags, "--allow-noncausal", ranks=2)
        assert allowed.returncode == 0, allowed.stderr
