"""A run that was interrupted goes on as if it had not been, on the same layout bit for bit, on any other too."""

import json

import pytest
from conftest import records
from safetensors import safe_open

CLOCKS = {"step_ms", "tokens_per_second", "mfu", "comm_ms", "data_ms", "forward_ms", "backward_ms", "optimizer_ms",
          "checkpoint_ms", "peak_rss_bytes"}
HARD = {"model__dropout": 0.1, "moe__router__jitter_eps": 0.1, "moe__balance": "{type: topk, scope: global_lagged}",
        "moe__router__selection_bias": "true"}


def numbers(run):
    steps, evaluations = records(run)
    return [{k: v for k, v in r.items() if k not in CLOCKS} for r in steps + evaluations]


def tensors(step_dir):
    """Every tensor of a checkpoint, put together from its slices, as bytes."""
    manifest = json.loads((step_dir / "manifest.json").read_text())
    files = {name: (step_dir / name).read_bytes() for name in manifest["shards"]}
    return {t["name"]: b"".join(files[s["file"]][s["offset"]:s["offset"] + s["bytes"]] for s in t["slices"])
            for t in manifest["tensors"]}


@pytest.mark.parametrize("ranks, expert", [(1, 1), (2, 2), (4, 2)])
def test_resume_is_bitwise_on_the_same_layout(ranks, expert, train, tmp_path):
    layout = {"parallel__expert": expert, "train__micro_batch_size": 8 // ranks // 2, **HARD}
    train("whole", ranks=ranks, **layout)
    train("parts", ranks=ranks, **layout)
    last = tmp_path / "parts/checkpoints/step-00000020"
    for path in sorted(last.iterdir()):
        path.unlink()
    last.rmdir()
    (tmp_path / "parts/checkpoints/latest").write_text("step-00000010\n")
    again = train("parts", ranks=ranks, **layout)
    assert "going on from" in again.stderr and "step-00000010" in again.stderr
    assert numbers(tmp_path / "whole") == numbers(tmp_path / "parts")
    assert tensors(tmp_path / "whole/checkpoints/step-00000020") == tensors(last)


def test_resume_on_other_layouts_follows_the_same_curve(train, tmp_path):
    train("whole", train__steps=20)
    expected = {r["step"]: r["loss"] for r in records(tmp_path / "whole")[0]}
    for ranks, expert in ((2, 2), (4, 2), (1, 1)):
        run = f"moved{ranks}"
        start = tmp_path / "whole/checkpoints/step-00000010"
        train(run, ranks=ranks, resume=start, parallel__expert=expert, train__micro_batch_size=2)
        steps, _ = records(tmp_path / run)
        assert [r["step"] for r in steps] == list(range(11, 21))
        for r in steps:
            assert r["loss"] == pytest.approx(expected[r["step"]], rel=1e-4), (ranks, r["step"])


def test_zero_stage_0_and_1_train_the_same(train, tmp_path):
    for stage in (0, 1):
        train(f"zero{stage}", ranks=2, zero__stage=stage, parallel__expert=2)
    zero, one = (records(tmp_path / f"zero{stage}")[0] for stage in (0, 1))
    for a, b in zip(zero, one, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)


def test_the_newest_checkpoint_may_be_damaged(train, tmp_path):
    train("run")
    shard = tmp_path / "run/checkpoints/step-00000020/rank-00000.safetensors"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    again = train("run", train__steps=22)
    assert "step-00000020" in again.stderr and "going on from" in again.stderr and "step-00000010" in again.stderr


def test_what_may_not_change_is_refused(train):
    train("run")
    for settings, message in (({"run__seed": 5}, "run.seed"), ({"model__hidden_size": 64}, "hidden_size"),
                              ({"moe__num_experts": 8}, "num_experts"), ({"data__sequence_length": 16}, "data")):
        done = train("run", check=False, **settings)
        assert done.returncode == 2 and message in done.stderr, done.stderr


def test_strict_insists_and_never_starts_over_without_losing_anything(train, tmp_path):
    assert train("run", resume="strict", check=False).returncode == 2
    train("run")
    train("run", resume="never")
    assert (tmp_path / "run/checkpoints.old-1/step-00000020/manifest.json").exists()
    assert (tmp_path / "run/metrics.jsonl.old-1").exists()
    assert records(tmp_path / "run")[0][0]["step"] == 1


def test_a_checkpoint_opens_in_any_tool(train, tmp_path):
    train("run")
    with safe_open(tmp_path / "run/checkpoints/step-00000020/rank-00000.safetensors", "np") as f:
        assert "model.layers.1.mlp.experts.3.gate_proj.weight" in f.keys()
