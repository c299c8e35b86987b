"""The disk fails while a run opens its folder or goes on from a checkpoint: one message that names the file and
the way out, exit code 3, and the same command goes through once the disk is mended."""

import itertools
import re
import shutil

import pytest
from conftest import PLAIN, TORTURE, log_of, newest, numbers, tensors, train_tiny

WORDS = {"eio": ("Input/output error", "the system's log says more"),
         "enospc": ("No space left on device", "make room there"),
         "eintr": ("Interrupted system call", "try again")}
STEPS = {"train__steps": 2, "checkpoint__interval": 1}


def operations(start, tmp_path, name, **settings):
    """How many file operations on its folder a run makes that nothing disturbs."""
    job = start(name, faulty=True, file_fault=f"path=/{name}:count:{tmp_path}/count", **settings)
    assert job.end() == 0, job.text()
    return int((tmp_path / "count.0").read_text())


def chosen(count, sample):
    """(K, deed): every operation with every deed, of very many every seventh; or a sample spread over both. The C++
    tests of run_folder_test.cpp and failing_ops_test.cpp leave none out."""
    if TORTURE and count < 100:
        return list(itertools.product(range(1, count + 1), WORDS))
    places = range(1, count + 1, 7) if TORTURE else [1 + i * (count - 1) // (sample - 1) for i in range(sample)]
    return list(zip(places, itertools.cycle(WORDS)))


def expect_told(job, deed, folder):
    """Once, without a trace of the program's insides."""
    text = job.text()
    said = re.findall(r"^switchyard: (.*)$", text, re.M)
    assert len(said) == 1, text
    reason, way_out = WORDS[deed]
    assert re.search(rf"cannot [a-z0-9 ]+ {re.escape(str(folder))}\S*.*: {reason}", said[0]), text
    assert way_out in said[0], text
    assert not re.search("Traceback|terminate called|what\\(\\)|Signal:|c10::|std::", text), text


def expect_refused_or_harmless(job, deed, lasting, folder):
    """Whether it was refused. What a signal interrupts is mostly done again; a close after reading matters to nobody."""
    code = job.end()
    assert code in ((3,) if lasting else (0, 3)), job.text()
    if code == 3:
        expect_told(job, deed, folder)
    return code == 3


def test_of_a_new_run(start, tmp_path):
    count = operations(start, tmp_path, "counted", train__steps=1, checkpoint__interval=0)
    assert count > 15
    refused = 0
    for k, deed in chosen(count, sample=3):
        run = tmp_path / f"run-{k}-{deed}"
        settings = dict(train__steps=1, checkpoint__interval=0)
        job = start(run.name, faulty=True, file_fault=f"path=/{run.name}:{deed}@{k}", **settings)
        refused += expect_refused_or_harmless(job, deed, False, run)
        again = start(run.name, **settings)
        assert again.end() == 0, again.text()
        assert [r["step"] for r in log_of(run)] == [1]
        assert not [path for path in run.iterdir() if ".tmp-" in path.name]
    print(f"{refused} of {len(chosen(count, sample=3))} failures ended a new run")
    assert refused >= 1


@pytest.fixture(scope="module")
def saved(data, tmp_path_factory):
    """A run of two steps, each saved."""
    folder = tmp_path_factory.mktemp("saved")
    train_tiny(folder, data, "saved", **PLAIN, **STEPS)
    return folder / "saved"


def test_of_a_resume(saved, start, tmp_path):
    """From step 2 on, or from step 1, and then the log says why, and step 2 is only renamed."""
    shutil.copytree(saved, tmp_path / "counted")
    count = operations(start, tmp_path, "counted", **STEPS)
    assert count > 60
    refused = passed_over = 0
    for k, deed in chosen(count, sample=3):
        run = shutil.copytree(saved, tmp_path / f"run-{k}-{deed}")
        job = start(run.name, faulty=True, file_fault=f"path=/{run.name}:{deed}@{k}", **STEPS)
        refused += expect_refused_or_harmless(job, deed, False, run)
        if "not resumed from: rank 0: cannot" in job.text():
            passed_over += 1
            complaint = re.search("not resumed from: (.*)", job.text())[1]
            assert WORDS[deed][0] in complaint and WORDS[deed][1] in complaint, job.text()
            aside = run / "checkpoints/step-00000002.old-1"
            assert f"renamed  {run}/checkpoints/step-00000002 to {aside}" in job.text() or not aside.exists()
        again = start(run.name, **STEPS)
        assert again.end() == 0, again.text()
        assert tensors(newest(run)) == tensors(newest(saved)) and numbers(run) == numbers(saved)
    print(f"{refused} of {len(chosen(count, sample=3))} failures ended a resume, {passed_over} took the one before")
    assert refused + passed_over >= 1


@pytest.mark.parametrize("deed", WORDS if TORTURE else ["eio"])
def test_of_a_disk_that_stays_broken(deed, saved, start, tmp_path):
    """Nothing starts from scratch, and what was there stays, byte for byte."""
    run = shutil.copytree(saved, tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    job = start("run", faulty=True, file_fault=f"path=/run/checkpoints:{deed}@1+", ranks=2, **STEPS)
    assert job.end() == 3, job.text()
    said, = re.findall(r"^switchyard: (.*(?:\n  .*)*)", job.text(), re.M)
    assert said.startswith(f"rank 0: no whole checkpoint could be read in {run}/checkpoints; mend the disk"), said
    for step in (1, 2):
        assert f"  rank 0: cannot open {run}/checkpoints/step-0000000{step}/manifest.json: {WORDS[deed][0]}" in said
    changed = [path for path in before if path.name != "lock" and path.read_bytes() != before[path]]
    assert not changed and {path for path in run.rglob("*") if path.is_file()} == set(before)


def test_of_records_while_it_trains(start, tmp_path):
    """The disk fills up between two saves: the run ends, and goes on from the last one."""
    settings = dict(train__steps=6, checkpoint__interval=2, **{"checkpoint__async": "false"})
    whole = start("whole", **settings)
    job = start("run", faulty=True, file_fault="path=/run/metrics.jsonl:enospc@5", **settings)
    assert job.end() == 3, job.text()
    expect_told(job, "enospc", tmp_path / "run/metrics.jsonl")
    last = newest(tmp_path / "run")
    assert f"last checkpoint {last}" in job.text()
    again = start("run", **settings)
    assert again.end() == 0 and whole.end() == 0 and f"going on from {last}" in again.text(), again.text()
    assert numbers(tmp_path / "run") == numbers(tmp_path / "whole")
