"""Training as a user runs it: what it prints, writes and agrees on, up to the strangest routing."""

import json
import math

import pytest
from conftest import TINY, files_in, records, sets, switchyard

STEP_KEYS = {"step", "tokens", "loss", "aux_loss", "z_loss", "grad_norm", "grad_norm_dense", "grad_norm_expert", "lr",
             "step_ms", "tokens_per_second", "mfu", "comm_ms", "data_ms", "peak_rss_bytes",
             *(f"moe.{layer}.{what}" for layer in (1, 2) for what in ("max_load", "dropped", "entropy", "load"))}
EVAL_KEYS = {"step", "eval", "loss", "bits_per_byte"}
LAYOUTS = {"one": (1, 1), "data": (2, 1), "expert": (2, 2), "both": (4, 2), "all_data": (4, 1), "all_expert": (4, 4)}
# Routing that is spread over the experts from the first step on.
SPREAD = {"model__init_std": 0.3}


def test_every_layout_logs_the_same_numbers(train, tmp_path):
    curves = {}
    for name, (ranks, expert) in LAYOUTS.items():
        done = train(name, ranks=ranks, parallel__expert=expert, train__micro_batch_size=2, train__steps=10, **SPREAD)
        assert "step 10/10 | loss " in done.stdout and "eval val 10/10 | loss " in done.stdout
        assert f"layout   {ranks} ranks = EP {expert} x EDP {ranks // expert}" in done.stderr
        curves[name] = records(tmp_path / name)
    steps, evaluations = curves["one"]
    assert [r["step"] for r in steps] == list(range(1, 11)) and [r["step"] for r in evaluations] == [10]
    for name, (ours, our_evaluations) in curves.items():
        for a, b in zip(ours, steps, strict=True):
            for key in ("loss", "aux_loss", "z_loss", "grad_norm", "grad_norm_dense", "grad_norm_expert", "lr"):
                assert a[key] == pytest.approx(b[key], rel=1e-4), (name, a["step"], key)
            for layer in (1, 2):
                assert a[f"moe.{layer}.load"] == pytest.approx(b[f"moe.{layer}.load"], abs=2 / 512), (name, a["step"])
        assert our_evaluations[-1]["loss"] == pytest.approx(evaluations[-1]["loss"], rel=1e-4)


@pytest.mark.parametrize("ranks, expert", [(1, 1), (2, 2), (4, 2)])
def test_a_run_learns_and_leaves_its_folder(ranks, expert, train, tmp_path):
    train("run", ranks=ranks, parallel__expert=expert, train__micro_batch_size=2)
    run = tmp_path / "run"
    steps, evaluations = records(run)
    for r in steps:
        assert STEP_KEYS <= set(r) and r["tokens"] == r["step"] * 8 * 32
        assert sum(r["moe.1.load"]) == pytest.approx(1) and max(r["moe.1.load"]) * 4 == pytest.approx(r["moe.1.max_load"])
        assert 0 <= r["moe.1.entropy"] <= math.log(4) + 1e-6 and r["moe.1.dropped"] == 0
        assert math.hypot(r["grad_norm_dense"], r["grad_norm_expert"]) == pytest.approx(r["grad_norm"])
    assert [r["step"] for r in evaluations] == [10, 20]
    assert all(EVAL_KEYS <= set(r) and r["eval"] == "val" for r in evaluations)
    assert steps[0]["loss"] == pytest.approx(math.log(320), rel=0.05)
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.5 and evaluations[1]["loss"] < evaluations[0]["loss"]
    assert (run / "checkpoints/latest").read_text() == "step-00000020\n"
    manifest = json.loads((run / "checkpoints/step-00000020/manifest.json").read_text())
    assert manifest["step"] == 20 and manifest["cursor"] == 20 * 8
    assert manifest["layout"] == {"world": ranks, "expert": expert, "zero": 1}
    (events,) = (run / "tb").iterdir()
    told = {"metrics.jsonl", "run.json", "routing.json", "tb", f"tb/{events.name}"}
    flight = {"flight", *(f"flight/rank-0000{r}.txt" for r in range(ranks))}
    assert set(files_in(run)) == {"config.yaml", "lock", "checkpoints", "checkpoints/latest"} | told | flight | {
        f"checkpoints/{step}{file}" for step in ("step-00000010", "step-00000020")
        for file in ("", "/manifest.json", "/config.yaml", "/meta.json", *(f"/rank-0000{r}.safetensors" for r in range(ranks)))}


def test_intervals_of_0_turn_things_off(train, tmp_path):
    done = train("run", train__log_interval=0, train__eval_interval=0, checkpoint__interval=0, train__steps=3,
                 run__tensorboard="false")
    assert done.stdout.count("\n") == 1 and "step 1/3" in done.stdout
    assert files_in(tmp_path / "run") == [
        "config.yaml", "flight", "flight/rank-00000.txt", "lock", "metrics.jsonl", "routing.json", "run.json"]


def test_the_run_keeps_the_config_that_print_config_prints(train, data, tmp_path):
    (tmp_path / "base.yaml").write_text(f"extends: {TINY}\nmodel: {{vocab_size: 320}}\n"
                                        "train: {steps: 2, global_batch_size: 4}\n")
    (tmp_path / "child.yaml").write_text("extends: base.yaml\ntrain: {steps: 3}\n")
    words = sets({"run__dir": tmp_path, "data__path": data, "optim__lr": "2.5e-4", "train__steps": 1})
    before = files_in(tmp_path)
    printed = switchyard("train", tmp_path / "child.yaml", "--print-config", *words)
    assert printed.returncode == 0 and printed.stderr == "" and files_in(tmp_path) == before
    for line in ("steps: 1", "global_batch_size: 4", "lr: 2.5e-4", "hidden_size: 32", "vocab_size: 320"):
        assert re_line(line, printed.stdout), line
    (tmp_path / "again.yaml").write_text(printed.stdout)
    assert switchyard("train", tmp_path / "again.yaml", "--print-config").stdout == printed.stdout
    assert switchyard("train", tmp_path / "child.yaml", *words).returncode == 0
    assert (tmp_path / "tiny/config.yaml").read_text() == printed.stdout


def re_line(wanted, text):
    """Whether a line of YAML has the key and the number, however it is written."""
    key, value = wanted.split(": ")
    return any(line.split(": ")[0].strip() == key and float(line.split(": ")[1]) == float(value)
               for line in text.splitlines() if ": " in line and line.split(": ")[0].strip() == key)


@pytest.mark.parametrize("ranks", [1, 2])
def test_dry_run_writes_nothing(ranks, data, tmp_path):
    words = sets({"data__path": data, "run__dir": tmp_path, "parallel__expert": ranks})
    done = switchyard("train", TINY, "--dry-run", *words, ranks=ranks, cwd=tmp_path)
    assert done.returncode == 0 and files_in(tmp_path) == []
    for word in ("parameters", "vocabulary 320", f"{ranks} ranks = EP {ranks}", "weights", "optimizer"):
        assert done.stdout.count(word) == 1, done.stdout


DEGENERATE = {
    "idle_experts": {"moe__num_experts": 64, "data__sequence_length": 2, "train__global_batch_size": 4},
    "k_is_E": {"moe__top_k": 4},
    "one_expert": {"moe__num_experts": 2, "moe__top_k": 1, "moe__router": "{type: switch}"},
    "capacity_above_the_group": {"moe__capacity": "{factor: 100.0}"},
    "one_slot_per_expert": {"moe__capacity": "{factor: 0.01, min: 1}"},
    "one_token_per_sequence": {"data__sequence_length": 1},
    "one_token_per_sequence_and_capacity": {"data__sequence_length": 1, "moe__capacity": "{factor: 1.0, min: 1}"},
}


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_routing_stays_finite(name, ranks, train, tmp_path):
    settings = DEGENERATE[name]
    expert = min(ranks, settings.get("moe__num_experts", 4))
    train("run", ranks=ranks, parallel__expert=expert, train__micro_batch_size=1, train__steps=3, train__eval_batches=1,
          checkpoint__interval=0, **settings)
    steps, evaluations = records(tmp_path / "run")
    assert len(steps) == 3 and len(evaluations) == 1 and math.isfinite(evaluations[0]["loss"])
    for r in steps:
        assert all(math.isfinite(r[key]) for key in ("loss", "aux_loss", "z_loss", "grad_norm", "moe.1.max_load"))
        assert r["skipped_steps"] == 0
    if name == "idle_experts":
        assert steps[0]["moe.1.load"].count(0) >= 64 - 16
    if name == "k_is_E":
        assert steps[0]["moe.1.load"] == [0.25] * 4
    assert (steps[0]["moe.1.dropped"] > 0.5) == (name == "one_slot_per_expert")


@pytest.mark.parametrize("ranks", [1, 2])
def test_steps_that_are_not_finite_are_skipped_by_all_ranks_and_end_the_run(ranks, train, tmp_path):
    done = train("run", ranks=ranks, check=False, parallel__expert=ranks, optim__lr=1e30, train__max_skipped_steps=2,
                 optim__schedule="{type: constant, warmup_steps: 0}")
    assert done.returncode == 86, done.stderr
    assert done.stderr.count(" skipped: its loss or a gradient is not finite") == 3
    assert done.stderr.count("switchyard: ") == 1 and "3 steps in a row were not finite" in done.stderr
    assert "go back to an earlier checkpoint with a lower optim.lr" in done.stderr
    good, *skipped = records(tmp_path / "run")[0]
    assert good["skipped_steps"] == 0 and [r["skipped_steps"] for r in skipped] == list(range(1, len(skipped) + 1))
