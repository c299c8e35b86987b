"""A scheduler's signals: the run saves at its step boundary, exits with 85, and goes on bit for bit."""

import itertools
import os
import random
import signal
import time

import pytest
from conftest import SOURCE, TORTURE, acknowledged, newest, numbers, tensors

SIGNALS = {"USR1": signal.SIGUSR1, "USR2": signal.SIGUSR2, "TERM": signal.SIGTERM, "INT": signal.SIGINT}
RUN = {"train__steps": 24, "checkpoint__interval": 10, "train__eval_interval": 4, "model__dropout": 0.1,
       "train__global_batch_size": 16}


def stopped_step(job):
    text = job.text()
    assert "asked to stop" in text and "start the same command again" in text, text
    return int(text.split("stopped after step ")[1].split(";")[0])


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data):
    from conftest import Job
    job = Job(tmp_path_factory.mktemp("whole") / "run", data, ranks=2, **RUN)
    assert job.end() == 0, job.text()
    return job.run


@pytest.mark.parametrize("name, rank", [("USR1", 1), ("TERM", "all"), ("INT", 1)] +
                         ([("TERM", 0), ("USR2", "all")] if TORTURE else []))
def test_a_signal_to_a_rank_saves_and_the_run_goes_on_bitwise(name, rank, start, tmp_path, whole):
    job = start("run", ranks=2, **RUN)
    ids = job.ranks(2)
    job.wait_for_step(5)
    for process in ids.values() if rank == "all" else [ids[rank]]:
        os.kill(process, SIGNALS[name])
    assert job.end() == 85, job.text()
    step = stopped_step(job)
    assert newest(tmp_path / "run").name == f"step-{step:08d}"
    again = start("run", ranks=2, **RUN)
    assert again.end() == 0 and f"step-{step:08d}" in again.text().split("going on from")[1], again.text()
    assert numbers(tmp_path / "run") == numbers(whole)
    assert tensors(newest(tmp_path / "run")) == tensors(newest(whole))


@pytest.mark.parametrize("ask", [lambda job: job.process.send_signal(signal.SIGTERM),
                                 lambda job: job.process.send_signal(signal.SIGINT)], ids=["TERM", "INT"])
def test_launch_sh_gives_a_run_the_time_to_save(ask, start, tmp_path):
    job = start("run", ranks=2, launcher=[str(SOURCE / "scripts/launch.sh")], train__steps=10**6)
    job.wait_for_step(3)
    ask(job)
    assert job.end() == 85, job.text()
    assert newest(tmp_path / "run").name == f"step-{stopped_step(job):08d}"


def test_two_signals_are_one_request(start):
    job = start("run", ranks=2, train__steps=10**6)
    ids = job.ranks(2)
    job.wait_for_step(3)
    for _ in range(2):
        for process in ids.values():
            os.kill(process, signal.SIGTERM)
    assert job.end() == 85, job.text()


PLACES = ["load", "data#1", "evaluate#1", "evaluate#2", "save.write", "save.shard", "save.commit", "backward#3", "optimizer#2"]


@pytest.mark.parametrize("place, background", itertools.product(PLACES, ("true", "false")) if TORTURE else [
    ("load", "true"), ("data#1", "false"), ("evaluate#2", "true"), ("save.write", "true"), ("save.commit", "false")])
def test_a_signal_in_any_phase_saves(place, background, start, tmp_path, whole):
    settings = {**RUN, "ranks": 2, "checkpoint__async": background}
    if place == "load":
        start("run", **{**settings, "train__steps": 24}, faulty=True, faults="forward#100@1=kill").end()
    job = start("run", faulty=True, faults=f"{place}@{0 if 'commit' in place else 1}=term", **settings)
    assert job.end() == 85, job.text()
    step = stopped_step(job)
    again = start("run", **settings)
    assert again.end() == 0 and f"step-{step:08d}" in again.text().split("going on from")[1], again.text()
    assert numbers(tmp_path / "run") == numbers(whole)
    assert tensors(newest(tmp_path / "run")) == tensors(newest(whole))


def test_a_run_that_saves_nothing_just_ends(start, tmp_path):
    job = start("run", ranks=2, train__steps=10**6, checkpoint__interval=0)
    ids = job.ranks(2)
    job.wait_for_step(2)
    os.kill(ids[1], signal.SIGTERM)
    assert job.end() not in (0, 85) and acknowledged(job.text()) == 0


def test_random_times(start):
    dice = random.Random(7)
    times = 50 if TORTURE else 2
    saved = 0
    for i in range(times):
        job = start(f"run{i}", ranks=2, launcher=[str(SOURCE / "scripts/launch.sh")], train__steps=10**6,
                    train__eval_interval=3, checkpoint__interval=5)
        job.wait_for("run      ")
        time.sleep(dice.random() * 2)
        job.process.send_signal(signal.SIGTERM)
        saved += job.end() == 85 and stopped_step(job) >= 0
    print(f"{saved} of {times} saved")
    assert saved == times
