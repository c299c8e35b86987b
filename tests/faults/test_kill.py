"""SIGKILL at any moment: the newest checkpoint is whole, none that was announced is lost, the job is over soon."""

import itertools
import os
import random
import signal
import time

import pytest
from conftest import TORTURE, acknowledged, newest, numbers, resumed_at, temporary_folders, tensors

CYCLES = int(os.environ.get("SWITCHYARD_KILLS", "1000" if TORTURE else "6"))


def victims(job, ranks, dice):
    """Mostly one rank; sometimes all at once, or the launcher."""
    ids = job.ranks(ranks)
    deed = dice.random()
    if deed < 0.1:
        return list(ids.values())
    if deed < 0.2 and ranks > 1:
        return [job.process.pid]
    return [ids[dice.randrange(ranks)]]


def kill(processes):
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it had just ended, with its job


def test_kill_loop(start, tmp_path):
    dice = random.Random(20261124)
    inside_a_save, slowest, last, report = 0, 0.0, 0, ""
    for cycle in range(CYCLES):
        ranks = dice.choice([2, 2, 2, 4, 4, 8] if TORTURE else [2, 2, 4])
        job = start("run", ranks=ranks, train__steps=10**6, checkpoint__interval=1, checkpoint__keep=2,
                    train__global_batch_size=8, **{"checkpoint__async": dice.choice(["true", "false"])})
        job.wait_for("run      ")
        during_the_load = dice.random() < 0.1
        if not during_the_load:
            job.wait_for_step(last + 1)
            time.sleep(dice.random() * 0.4)
        kill(victims(job, ranks, dice))
        killed = time.monotonic()
        code = job.end()
        slowest = max(slowest, time.monotonic() - killed)
        text = job.text()
        assert code != 0, text
        assert "not resumed from" not in text and "is held by" not in text, text
        assert resumed_at(text) >= last, text
        last = max(resumed_at(text), acknowledged(text))
        inside_a_save += bool(temporary_folders(tmp_path / "run"))
        report = (f"{cycle + 1} kills, {inside_a_save} inside a save, 0 damaged, 0 lost; step {last}; "
                  f"slowest end {slowest:.2f} s")
        if (cycle + 1) % 50 == 0:
            print(report, flush=True)
    print(report)
    assert last > 0 and inside_a_save > CYCLES // 4


PLACES = ["save.write", "save.shard", "save.commit", "save.published"]


@pytest.mark.parametrize("place, ranks, background", itertools.product(PLACES, (2, 4), ("true", "false")) if TORTURE else [
    ("save.write", 2, "true"), ("save.shard", 2, "false"), ("save.commit", 2, "true"), ("save.published", 2, "false")])
def test_killed_at_each_place_of_a_save(place, ranks, background, start, tmp_path):
    """The second save dies; the announced one before it is the newest, or the one that was just renamed."""
    for victim in range(ranks) if TORTURE and place in ("save.write", "save.shard") else [0]:
        name = f"run{victim}"
        settings = {"ranks": ranks, "train__steps": 8, "checkpoint__interval": 2, "checkpoint__async": background}
        job = start(name, faulty=True, faults=f"{place}#2@{victim}=kill", **settings)
        assert job.end() != 0
        assert acknowledged(job.text()) == 2, job.text()
        again = start(name, **settings)
        assert again.end() == 0, again.text()
        assert resumed_at(again.text()) == (4 if place == "save.published" else 2), again.text()
        assert "not resumed from" not in again.text() and not temporary_folders(tmp_path / name)
        assert newest(tmp_path / name).name == "step-00000008"


def test_a_second_resume_after_a_killed_resume_is_bitwise_the_same(start, tmp_path):
    settings = {"ranks": 2, "train__steps": 12, "checkpoint__interval": 4, "model__dropout": 0.1,
                "checkpoint__async": "false"}
    whole = start("whole", **settings)
    assert whole.end() == 0, whole.text()
    start("run", faulty=True, faults="forward#21@1=kill", **settings).end()
    for place in ("load", "data#1", "forward#3"):
        start("run", faulty=True, faults=f"{place}@0=kill", **settings).end()
    last = start("run", **settings)
    assert last.end() == 0 and resumed_at(last.text()) == 4, last.text()
    assert numbers(tmp_path / "run") == numbers(tmp_path / "whole")
    assert tensors(newest(tmp_path / "run")) == tensors(newest(tmp_path / "whole"))


@pytest.mark.parametrize("what", ["launcher", "all ranks"])
def test_nothing_is_left_running(what, start):
    job = start("run", ranks=4, train__steps=10**6, checkpoint__interval=1)
    ids = job.ranks(4)
    job.wait_for("saved ")
    kill([job.process.pid] if what == "launcher" else ids.values())
    assert job.end() != 0  # and no rank is there any more
    again = start("run", ranks=4, train__steps=10**6, checkpoint__interval=1)
    again.wait_for("going on from")
