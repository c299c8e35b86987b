"""Sixty steps in one go, and in three parts: every logged number and every byte of the state are the same."""

import pytest
from conftest import HARD, TEXT, TORTURE, newest, numbers, prepare, records, tensors

STEPS, PARTS = 60, (20, 40)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Text of some 300 samples: the second epoch begins between the first resume and the second."""
    folder = tmp_path_factory.mktemp("short")
    (folder / "text").write_text(TEXT.read_text()[:10000])
    return prepare(folder / "text", folder / "data")


def layout(ranks, expert):
    return {"ranks": ranks, "parallel__expert": expert, "train__global_batch_size": 16,
            "train__micro_batch_size": 16 // ranks // 2, "train__steps": STEPS, "train__eval_interval": 10,
            "checkpoint__interval": 20, "checkpoint__keep": 10, "moe__num_experts": 8, **HARD}


@pytest.mark.parametrize("ranks, expert", [(1, 1), (2, 2), (4, 2), (8, 4)] if TORTURE else [(1, 1), (4, 2)])
def test_two_resumes_change_nothing(ranks, expert, short, start, tmp_path):
    whole = start("whole", data=short, **layout(ranks, expert))
    assert whole.end() == 0, whole.text()
    for step in PARTS:  # each goes on for 22 steps of two micro-batches, and dies in the next
        part = start("parts", data=short, faulty=True, faults="forward#45@0=kill", checkpoint__async="false",
                     **layout(ranks, expert))
        assert part.end() != 0 and newest(tmp_path / "parts").name == f"step-{step:08d}", part.text()
    last = start("parts", data=short, **layout(ranks, expert))
    assert last.end() == 0 and "step-00000040" in last.text().split("going on from")[1], last.text()
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    assert [r["step"] for r in records(tmp_path / "parts")[0]] == list(range(1, STEPS + 1))
    assert tensors(newest(tmp_path / "parts")) == tensors(newest(tmp_path / "whole"))


@pytest.mark.parametrize("ranks, threads", [(1, 1), (2, 1), (4, 1), (1, 2)] if TORTURE else [(2, 1), (1, 2)])
def test_the_same_seed_twice_is_the_same_run(ranks, threads, short, start, tmp_path):
    for name in ("a", "b"):
        job = start(name, data=short, **{**layout(ranks, 1), "train__steps": 10, "train__threads": threads,
                                         "checkpoint__interval": 10})
        assert job.end() == 0, job.text()
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")
    assert tensors(newest(tmp_path / "a")) == tensors(newest(tmp_path / "b"))
