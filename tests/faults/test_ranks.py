"""A rank that dies, is slow, or cannot get memory: the job ends, says who it was and where, and leaves nothing behind."""

import os
import re

import pytest
from conftest import TORTURE, resumed_at

PHASES = ["load", "data#4", "forward#4", "backward#4", "reduce#4", "optimizer#4", "save.write#2", "save.commit#2", "evaluate#2"]
DEATHS = ["kill", "segv", "abort", "exit(0)", "exit(3)", "throw", "bad_alloc"]
RUN = {"train__steps": 8, "checkpoint__interval": 2, "train__eval_interval": 2, "checkpoint__async": "false",
       "train__global_batch_size": 8}
# All of the product in the torture; otherwise each phase and each death once.
CASES = [(p, d, n) for p in PHASES for d in DEATHS for n in (2, 4, 8)] if TORTURE else [
    (p, DEATHS[i % len(DEATHS)], 2) for i, p in enumerate(PHASES)] + [("forward#4", d, 4) for d in ("segv", "exit(0)")]


@pytest.mark.parametrize("phase, death, ranks", CASES)
def test_a_rank_that_dies_ends_the_job_and_is_named(phase, death, ranks, start, tmp_path):
    victim = 0 if phase.startswith("save.commit") else ranks - 1
    settings = {**RUN, "ranks": ranks}
    if phase == "load":
        assert start("run", **{**settings, "train__steps": 2}).end() == 0
    micro = 8 // ranks  # sequences of one each
    place = re.sub(r"#4$", f"#{3 * micro + 1}" if phase.startswith(("forward", "backward")) else "#4", phase)
    job = start("run", faulty=True, faults=f"{place}@{victim}={death}", **settings)
    assert job.end() != 0, job.text()
    text = job.text()
    line = [x for x in text.splitlines() if f"rank {victim}" in x and "mpirun" not in x]
    assert line, text
    if death in ("throw", "bad_alloc"):
        assert len([x for x in line if x.startswith("switchyard: ")]) == 1, text
    if not (TORTURE or phase.startswith(("load", "save"))):
        return
    again = start("run", **settings)
    assert again.end() == 0, again.text()
    assert resumed_at(again.text()) >= (0 if phase.startswith(("data", "evaluate")) else 2), again.text()


@pytest.mark.parametrize("ranks", [2, 4])
def test_a_slow_rank_is_named_and_nobody_is_killed(ranks, start):
    job = start("run", ranks=ranks, faulty=True, faults=f"data#*@{ranks - 1}=sleep(400)", train__steps=20,
                train__log_interval=5, checkpoint__interval=0, watchdog__timeout_seconds=5)
    assert job.end() == 0, job.text()
    warning = [x for x in job.text().splitlines() if "is slow" in x]
    # Others may be slow, too, and are then named: more ranks than cores, and another test beside them.
    assert len([line for line in warning if f"rank {ranks - 1} is slow" in line]) == 1, job.text()


@pytest.mark.parametrize("ranks, settings, message", [
    (3, {"parallel__expert": 2, "train__global_batch_size": 12}, "parallel.expert"),
    (5, {"train__global_batch_size": 8}, "train.global_batch_size"),
    (4, {"parallel__expert": 3, "train__global_batch_size": 8}, "parallel.expert"),
])
def test_a_world_that_does_not_fit_is_refused_before_anything(ranks, settings, message, start, tmp_path):
    job = start("run", ranks=ranks, **settings)
    assert job.end() == 2 and message in job.text(), job.text()
    assert not (tmp_path / "run").exists()


def test_no_memory_on_one_rank_ends_the_job_with_its_name(start, tmp_path):
    script = tmp_path / "limit.sh"
    script.write_text('#!/bin/sh\nif [ "$OMPI_COMM_WORLD_RANK" = 1 ]; then ulimit -v 3000000; fi\nexec "$@"\n')
    script.chmod(0o755)
    job = start("run", ranks=2, before=[str(script)], train__steps=2, model__hidden_size=2048,
                model__intermediate_size=16384, model__num_attention_heads=8, moe__expert_intermediate_size=8192)
    assert job.end() != 0, job.text()
    assert re.search(r"switchyard: rank 1: .*(alloc|memory)", job.text()), job.text()
    assert os.path.exists(tmp_path)
