"""A run that was interrupted goes on as if it had not been, on the same layout bit for bit, on any other too."""

import json
import shutil

import pytest
from conftest import HARD, TEXT, files_in, flip_byte_of, numbers, prepare, records, tensors
from safetensors.numpy import load_file


def forget_after(run, step):
    """The run as it was when it was killed after `step`, whose metrics were already further on."""
    for folder in (run / "checkpoints").glob("step-*"):
        if int(folder.name[5:]) > step:
            shutil.rmtree(folder)
    (run / "checkpoints/latest").write_text(f"step-{step:08d}\n")


@pytest.mark.parametrize("ranks, expert", [(1, 1), (2, 2), (4, 2)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resume_is_bitwise_on_the_same_layout(ranks, expert, precision, train, tmp_path):
    layout = {"parallel__expert": expert, "train__micro_batch_size": 8 // ranks // 2, "train__precision": precision}
    train("whole", ranks=ranks, **layout, **HARD)
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    forget_after(tmp_path / "parts", 10)
    again = train("parts", ranks=ranks, **layout, **HARD)
    assert "going on from" in again.stderr and "step-00000010" in again.stderr
    assert "step 10/20" not in again.stdout and "step 11/20" in again.stdout
    assert numbers(tmp_path / "whole") == numbers(tmp_path / "parts")
    assert len(records(tmp_path / "parts")[0]) == 20
    whole, parts = (tensors(tmp_path / run / "checkpoints/step-00000020") for run in ("whole", "parts"))
    assert whole == parts and len(whole) > 100


@pytest.mark.parametrize("before, after", [((2, 2), (1, 1)), ((1, 1), (4, 2)), ((4, 4), (2, 1))])
def test_resume_on_another_layout_follows_the_same_curve(before, after, train, tmp_path):
    settings = {"train__micro_batch_size": 2, **HARD}
    train("whole", ranks=before[0], parallel__expert=before[1], **settings)
    start = tmp_path / "whole/checkpoints/step-00000010"
    done = train("moved", ranks=after[0], parallel__expert=after[1], resume=start, **settings)
    assert f"{after[0]} ranks = EP {after[1]}" in done.stderr and str(start) in done.stderr
    expected = {r["step"]: r for r in records(tmp_path / "whole")[0]}
    steps, evaluations = records(tmp_path / "moved")
    assert [r["step"] for r in steps] == list(range(11, 21)) and len(evaluations) == 1
    for r in steps:
        assert r["tokens"] == expected[r["step"]]["tokens"] and r["lr"] == expected[r["step"]]["lr"]
        assert r["loss"] == pytest.approx(expected[r["step"]]["loss"], rel=1e-5), r["step"]


@pytest.mark.parametrize("router", ["{type: hash, hash: {method: balanced}}", "{type: reinforce}",
                                    "{type: recurrent, recurrent: {hidden_size: 16}}"])
def test_a_routers_state_and_shared_weights_move_to_another_layout(router, train, tmp_path):
    settings = {"moe__router": router, "moe__top_k": 1, "train__micro_batch_size": 2}
    train("whole", ranks=2, parallel__expert=2, **settings)
    start = tmp_path / "whole/checkpoints/step-00000010"
    train("moved", ranks=1, resume=start, **settings)
    expected = {r["step"]: r["loss"] for r in records(tmp_path / "whole")[0]}
    for r in records(tmp_path / "moved")[0]:
        assert r["loss"] == pytest.approx(expected[r["step"]], rel=1e-5), r["step"]
    ends = [tensors(tmp_path / run / "checkpoints/step-00000020") for run in ("whole", "moved")]
    assert set(ends[0]) == set(ends[1])
    for name in ends[0]:
        if name.endswith("gate.table"):
            assert ends[0][name] == ends[1][name]


def test_a_checkpoint_of_another_router_is_refused(train, tmp_path):
    train("topk", train__steps=2)
    done = train("other", check=False, resume=tmp_path / "topk/checkpoints/step-00000002",
                 moe__router="{type: attention}")
    assert done.returncode == 2
    assert done.stderr.count("moe.router.type: attention here, topk there, with other weights") == 1


def test_zero_stage_batch_and_schedule_may_change(train, tmp_path):
    train("run", train__steps=10)
    train("run", ranks=2, zero__stage=0, train__micro_batch_size=1, train__steps=12, train__global_batch_size=4,
          optim__lr=1e-3)
    steps, _ = records(tmp_path / "run")
    assert [r["step"] for r in steps] == list(range(1, 13))
    assert steps[-1]["tokens"] == (10 * 8 + 2 * 4) * 32
    manifest = json.loads((tmp_path / "run/checkpoints/step-00000012/manifest.json").read_text())
    assert manifest["cursor"] == 10 * 8 + 2 * 4 and manifest["layout"] == {"world": 2, "expert": 1, "zero": 0}


@pytest.mark.parametrize("expert", [1, 2])
def test_zero_stages_train_the_same(expert, train, tmp_path):
    for stage in (0, 1, 2):
        train(f"zero{stage}", ranks=2, zero__stage=stage, parallel__expert=expert, train__micro_batch_size=2, **HARD)
    zero, one, two = (records(tmp_path / f"zero{stage}")[0] for stage in (0, 1, 2))
    for a, b, c in zip(zero, one, two, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5) and a["loss"] == pytest.approx(c["loss"], rel=1e-5)
        assert a["grad_norm"] == pytest.approx(c["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_newest_checkpoint_may_be_damaged(ranks, train, tmp_path):
    settings = {"ranks": ranks, "train__micro_batch_size": 4, "parallel__expert": ranks}
    train("run", **settings)
    expected = numbers(tmp_path / "run")
    last = tmp_path / "run/checkpoints/step-00000020"
    whole = tensors(last)
    flip_byte_of(last, "model.layers.1.mlp.experts.0.gate_proj.weight.exp_avg")
    again = train("run", **settings)
    assert "warning: not resumed from: " in again.stderr and "experts.0.gate_proj.weight.exp_avg" in again.stderr
    assert "going on from" in again.stderr and "step-00000010" in again.stderr.split("going on from")[1]
    assert numbers(tmp_path / "run") == expected and tensors(last) == whole


def test_a_run_that_goes_back_does_not_return_to_the_branch_it_left(train, tmp_path):
    train("run")
    checkpoints = tmp_path / "run/checkpoints"
    train("run", resume=checkpoints / "step-00000010", train__steps=15, optim__lr=1e-4)
    assert "step-00000020.old-1" in files_in(checkpoints) and "step-00000020" not in files_in(checkpoints)
    again = train("run", train__steps=16, optim__lr=1e-4)
    assert "step-00000015" in again.stderr.split("going on from")[1]
    assert [r["step"] for r in records(tmp_path / "run")[0]] == list(range(1, 17))


@pytest.mark.parametrize("settings, message", [
    ({"run__seed": 5}, "run.seed is 5 here, 1234 there"),
    ({"model__hidden_size": 64}, "`model.hidden_size` is 64 here, 32 there"),
    ({"moe__num_experts": 8}, "`moe.num_experts` is 8 here, 4 there"),
    ({"moe__top_k": 1}, "`moe.top_k` is 1 here, 2 there"),
    ({"moe__layers": "all"}, "`moe.layers` is all here, 1,2 there"),
    ({"model__tie_word_embeddings": "true"}, "`model.tie_word_embeddings` is true here, false there"),
    ({"data__sequence_length": 16}, "the training data is not the one it was trained on"),
], ids=lambda x: next(iter(x)) if isinstance(x, dict) else None)
def test_what_may_not_change_is_refused(settings, message, train, tmp_path):
    train("run", train__steps=1)
    before = files_in(tmp_path)
    done = train("run", check=False, **settings)
    assert done.returncode == 2 and done.stderr.count(message) == 1, done.stderr
    assert "step-00000001" in done.stderr and files_in(tmp_path) == before


@pytest.mark.parametrize("ranks", [1, 2])
def test_other_data_is_refused_and_the_same_data_elsewhere_is_not(ranks, data, train, tmp_path):
    settings = {"ranks": ranks, "train__micro_batch_size": 4}
    (tmp_path / "other.txt").write_text(TEXT.read_text().replace("Bennet", "Tennet"))
    other = prepare(tmp_path / "other.txt", tmp_path / "other")
    shutil.copytree(data, tmp_path / "same")
    train("run", train__steps=1, **settings)
    done = train("run", check=False, data__path=other, **settings)
    assert done.returncode == 2 and "the training data is not the one it was trained on" in done.stderr
    assert "checkpoint.load_from" in done.stderr
    train("run", train__steps=2, data__path=tmp_path / "same", **settings)


@pytest.mark.parametrize("ranks", [1, 2])
def test_strict_insists_and_never_starts_over_without_losing_anything(ranks, train, tmp_path):
    settings = {"ranks": ranks, "train__micro_batch_size": 4, "train__steps": 2}
    done = train("run", resume="strict", check=False, **settings)
    assert done.returncode == 2 and files_in(tmp_path) == []
    assert "has no checkpoint; use --resume auto to start a new run" in done.stderr
    train("run", **settings)
    assert "going on from" in train("run", resume="strict", **settings).stderr
    first = tensors(tmp_path / "run/checkpoints/step-00000002")
    for old in ("old-1", "old-2"):
        assert "going on from" not in train("run", resume="never", run__seed=7, **settings).stderr
        assert [r["step"] for r in records(tmp_path / "run")[0]] == [1, 2]
        assert (tmp_path / f"run/metrics.jsonl.{old}").exists()
    assert tensors(tmp_path / "run/checkpoints.old-1/step-00000002") == first
    assert tensors(tmp_path / "run/checkpoints.old-2/step-00000002") != first


def test_load_from_takes_the_weights_and_starts_at_step_1(train, tmp_path):
    train("run")
    done = train("tuned", ranks=2, parallel__expert=2, checkpoint__load_from=tmp_path / "run", run__seed=7,
                 train__steps=2)
    assert "going on from" not in done.stderr
    loss = records(tmp_path / "run")[0][-1]["loss"]
    steps, _ = records(tmp_path / "tuned")
    assert [r["step"] for r in steps] == [1, 2] and steps[0]["loss"] == pytest.approx(loss, rel=0.05)


def test_a_checkpoint_opens_in_any_tool(train, tmp_path):
    train("run", ranks=2, parallel__expert=2, train__steps=1)
    step = tmp_path / "run/checkpoints/step-00000001"
    manifest = json.loads((step / "manifest.json").read_text())
    shards = {path.name: load_file(path) for path in step.glob("*.safetensors")}
    assert sorted(shards) == ["rank-00000.safetensors", "rank-00001.safetensors"]
    elements = {t["name"]: sum(s["end"] - s["begin"] for s in t["slices"]) for t in manifest["tensors"]}
    stored = {}
    for shard in shards.values():
        for key, values in shard.items():
            name = key.split("@")[0]  # a part of a tensor is called NAME@BEGIN-END
            stored[name] = stored.get(name, 0) + values.size
    assert stored == elements
    assert "model.layers.1.mlp.experts.3.gate_proj.weight.exp_avg" in stored
