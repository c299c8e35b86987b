"""Numbers that go wrong: no rank acts alone on them, nothing that is not finite is kept, and a flipped bit has a name."""

import re

import numpy
import pytest
from conftest import TORTURE, acknowledged, newest, numbers, records, tensors

RUN = {"ranks": 4, "parallel__expert": 2, "train__steps": 12, "train__global_batch_size": 8, "checkpoint__interval": 3,
       "checkpoint__async": "false", "watchdog__timeout_seconds": 30}


@pytest.mark.parametrize("rank", [0, 3] if TORTURE else [3])
@pytest.mark.parametrize("where", ["gradient.nan", "expert_gradient.inf", "loss.nan"])
def test_one_bad_step_on_one_rank_is_skipped_by_all(rank, where, start, tmp_path):
    job = start("run", faulty=True, faults=f"{where}#5@{rank}=wrong", **RUN)
    assert job.end() == 0, job.text()
    assert job.text().count("warning: step 5 skipped: its loss or a gradient is not finite") == 1, job.text()
    steps, _ = records(tmp_path / "run")
    assert [r["skipped_steps"] for r in steps] == [0] * 4 + [1] * 8
    assert steps[4]["grad_norm"] is None or steps[4]["loss"] is None
    assert all(r["loss"] is not None for r in steps if r["step"] != 5)


def test_the_state_is_bit_for_bit_unchanged_by_a_skipped_step(start, tmp_path):
    """Saved before the bad step and after it: weights, master, moments are the same bytes."""
    job = start("run", faulty=True, faults="gradient.nan#5@1=wrong", **{**RUN, "checkpoint__interval": 1,
                                                                        "checkpoint__keep": 20})
    assert job.end() == 0, job.text()
    before, after = (tensors(tmp_path / f"run/checkpoints/step-0000000{step}") for step in (4, 5))
    assert before == after and tensors(newest(tmp_path / "run")) != after


@pytest.mark.parametrize("rank", [0, 2] if TORTURE else [2])
@pytest.mark.parametrize("where", ["weight.nan", "expert_weight.nan", "router_weight.inf"])
def test_a_weight_that_is_not_finite_ends_the_run_and_is_never_saved(rank, where, start, tmp_path):
    """It spreads to activations, router logits, loss and gradients: every step from then on is skipped."""
    job = start("run", faulty=True, faults=f"{where}#5@{rank}=wrong", **{**RUN, "train__steps": 40})
    assert job.end() == 86, job.text()
    assert job.text().count("not finite (train.max") + job.text().count("not finite; go back") == 1, job.text()
    assert acknowledged(job.text()) >= 3, job.text()
    for step_dir in (tmp_path / "run/checkpoints").glob("step-*"):  # ranks whose share was whole may have saved it
        values = b"".join(tensors(step_dir)[name] for name in tensors(step_dir) if not name.startswith("router_counts"))
        assert numpy.isfinite(numpy.frombuffer(values, numpy.float32)).all()
    again = start("run", **RUN)
    assert again.end() == 0 and acknowledged(again.text()) == 12, again.text()


def test_the_run_stops_after_that_many_skipped_steps(start, tmp_path):
    job = start("run", faulty=True, faults="gradient.nan#*@1=wrong", train__max_skipped_steps=3, **RUN)
    assert job.end() == 86, job.text()
    assert re.search(r"4 steps in a row were not finite \(train.max_skipped_steps 3\)", job.text()), job.text()


@pytest.mark.parametrize("rank", [0, 3])
def test_a_flipped_bit_of_a_replicated_weight_names_its_rank(rank, start):
    job = start("run", faulty=True, faults=f"weight.flip#5@{rank}=wrong", train__check_replicas_interval=2, zero__stage=0, **RUN)
    assert job.end() == 4, job.text()
    assert f"after step 6 rank {rank} holds other dense weights" in job.text(), job.text()


def test_a_step_replayed_from_its_checkpoint_is_the_same_step(start, tmp_path):
    """The replay that tells a broken machine from broken numbers: same checkpoint, same step, same bits."""
    first = start("run", **RUN)
    assert first.end() == 0
    replay = start("replay", resume=tmp_path / "run/checkpoints/step-00000009", **RUN)
    assert replay.end() == 0, replay.text()
    assert numbers(tmp_path / "replay") == numbers(tmp_path / "run")[9:]
    assert tensors(newest(tmp_path / "replay")) == tensors(newest(tmp_path / "run"))


@pytest.mark.parametrize("action, left", [("skip", "step 40 is a spike of the loss or the gradient norm: left out"),
                                          ("rollback", "step 40 is a spike of the loss or the gradient norm: rolled back to")])
def test_a_spike_is_skipped_or_rolled_back(action, left, start, tmp_path):
    settings = {**RUN, "train__steps": 60, "checkpoint__interval": 5, "train__spike": f"{{action: {action}, window: 32}}",
                "optim__schedule__type": "constant"}
    job = start("run", faulty=True, faults="spike#40=wrong", **settings)
    assert job.end() == 0, job.text()
    assert left in job.text(), job.text()
    steps, _ = records(tmp_path / "run")
    assert [r["step"] for r in steps] == list(range(1, 61))
    assert steps[-1]["loss"] < steps[30]["loss"] + 0.3
