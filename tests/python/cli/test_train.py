"""Training, evaluation and generation as a user runs them: what they print, write and agree on."""

import json
import math

import pytest
from conftest import records, switchyard

KEYS = {"step", "tokens", "loss", "aux_loss", "z_loss", "grad_norm", "grad_norm_dense", "grad_norm_expert", "lr",
        "step_ms", "tokens_per_second", "mfu", "comm_ms", "data_ms", "peak_rss_bytes", "moe.1.max_load",
        "moe.1.dropped", "moe.1.entropy", "moe.1.load", "moe.2.load"}


def test_every_layout_logs_the_same_losses(train, tmp_path):
    layouts = {"one": (1, 1), "data": (2, 1), "expert": (2, 2), "both": (4, 2)}
    for name, (ranks, expert) in layouts.items():
        done = train(name, ranks=ranks, parallel__expert=expert, train__micro_batch_size=2)
        assert "step 20/20 | loss " in done.stdout and "eval val 20/20" in done.stdout
    curves = {name: records(tmp_path / name) for name in layouts}
    steps, evaluations = curves["one"]
    assert all(KEYS <= set(r) for r in steps)
    assert [r["step"] for r in steps] == list(range(1, 21)) and [r["step"] for r in evaluations] == [10, 20]
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.5
    assert steps[0]["loss"] == pytest.approx(math.log(320), rel=0.05)
    for name in layouts:
        for ours, theirs in zip(curves[name][0], steps, strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4), (name, ours["step"])
            assert ours["moe.1.load"] == pytest.approx(theirs["moe.1.load"], abs=0.01)
    for name in layouts:
        assert curves[name][1][-1]["loss"] == pytest.approx(evaluations[-1]["loss"], rel=1e-4)


def test_eval_agrees_on_every_world(train, data, tmp_path):
    train("run")
    losses = []
    for ranks in (1, 2, 4):
        done = switchyard("eval", "--checkpoint", tmp_path / "run", "--data", data, "--json", ranks=ranks)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["bits_per_byte"] == pytest.approx(result["loss"] / math.log(2), rel=1e-3)  # bytes: and an end of text
        assert result["perplexity"] == pytest.approx(math.exp(result["loss"]))
        losses.append(result["loss"])
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_generate_says_the_same_on_every_world(train, tmp_path):
    train("run")
    texts = []
    for ranks in (1, 2, 4):
        done = switchyard("generate", "--checkpoint", tmp_path / "run", "--prompt", "It is a truth", "--temperature", 0,
                          "--max-new-tokens", 24, ranks=ranks)
        assert done.returncode == 0, done.stderr
        texts.append(done.stdout)
    assert texts[0].startswith("It is a truth") and len(texts[0]) > 20 and set(texts) == {texts[0]}
    sampled = [switchyard("generate", "--checkpoint", tmp_path / "run", "--prompt", "It", "--top-k", 20, "--top-p", 0.9,
                          "--max-new-tokens", 24, "--seed", seed).stdout for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]


@pytest.mark.parametrize("settings", [
    {"moe__num_experts": 64, "data__sequence_length": 2, "train__global_batch_size": 4, "train__micro_batch_size": 2},
    {"moe__top_k": 4}, {"moe__capacity": "{factor: 100.0}"}, {"data__sequence_length": 1},
    {"moe__capacity": "{factor: 0.01, min: 1}"}], ids=["idle_experts", "k_is_E", "roomy", "one_token", "tight"])
def test_degenerate_routing_stays_finite(settings, train, tmp_path):
    for ranks, expert in ((1, 1), (2, 2)):
        train(f"run{ranks}", ranks=ranks, parallel__expert=expert, train__steps=4, **settings)
        assert all(math.isfinite(r["loss"]) and math.isfinite(r["grad_norm"]) for r in records(tmp_path / f"run{ranks}")[0])


@pytest.mark.parametrize("ranks", [1, 2])
def test_steps_that_are_not_finite_are_skipped_and_end_the_run(ranks, train):
    done = train("run", ranks=ranks, check=False, optim__lr=1e30, optim__schedule="{type: constant, warmup_steps: 0}",
                 train__max_skipped_steps=2)
    assert done.returncode == 86, done.stderr
    assert done.stderr.count("skipped: its loss or a gradient") == 3 and "max_skipped_steps" in done.stderr


def test_dry_run_and_print_config_write_nothing(train, data, tmp_path):
    from conftest import SOURCE
    words = ["--set", f"data.path={data}", "--set", f"run.dir={tmp_path}"]
    done = switchyard("train", SOURCE / "configs/tiny.yaml", "--dry-run", *words)
    assert done.returncode == 0 and "parameters" in done.stdout and "optimizer" in done.stdout
    printed = switchyard("train", SOURCE / "configs/tiny.yaml", "--print-config", *words)
    assert printed.returncode == 0 and "num_experts: 4" in printed.stdout
    (tmp_path / "again.yaml").write_text(printed.stdout)
    assert switchyard("train", tmp_path / "again.yaml", "--print-config").stdout == printed.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["again.yaml"]
