"""SIGKILL while a model is upcycled: the source stays as it was, and no command takes what is left for a model."""

import hashlib
import os
import subprocess

import pytest
from conftest import FAULTY, TORTURE, newest, switchyard, temporary_folders, tensors, train_tiny

EXPERTS = ("--num-experts", "4", "--top-k", "2", "--method", "drop")


@pytest.fixture(scope="module")
def dense(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("dense")
    train_tiny(folder, data, "dense", moe__layers="none", train__steps=2, train__eval_interval=0)
    return folder / "dense"


def upcycle(dense, out, file_fault="", ranks=1):
    launcher = ["mpirun", "--timeout", "100", "-n", str(ranks), "--oversubscribe", "--bind-to", "none"] if ranks > 1 else []
    command = [*launcher, FAULTY, "upcycle", "--from", dense, "--out", out, "--sample-tokens", 16, *EXPERTS]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=200,
                          env={**os.environ, "OMP_NUM_THREADS": "1",
                               **({"SWITCHYARD_FILE_FAULT": file_fault} if file_fault else {})})


@pytest.fixture(scope="module")
def undisturbed(dense, tmp_path_factory):
    """{ranks: (tensors, file operations of each rank on the target)}"""
    found = {}
    for ranks in (1, 2, 4) if TORTURE else (1, 2):
        folder = tmp_path_factory.mktemp("undisturbed")
        done = upcycle(dense, folder / "target", f"path=/target/:count:{folder}/count", ranks)
        assert done.returncode == 0, done.stderr
        counts = [int((folder / f"count.{rank}").read_text()) for rank in range(ranks)]
        found[ranks] = tensors(newest(folder / "target")), counts
    return found


def digests(folder):
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*") if path.is_file()}


def assert_no_command_takes_it(out, data):
    assert not list(out.glob("checkpoints/step-????????"))
    for command in (("inspect", out), ("verify", out), ("eval", "--checkpoint", out, "--data", data),
                    ("generate", "--checkpoint", out, "--prompt", "It is"),
                    ("upcycle", "--from", out, "--out", out.parent / "again", *EXPERTS)):
        done = switchyard(*command)
        assert done.returncode == 3, (command, done.stderr)


def moments(count):
    """Of the operations 1 to `count`: all, or the first, some of the write and the last ones."""
    return range(1, count + 1) if TORTURE else sorted({1, count // 2, 3 * count // 4, count - 3, count})


def test_killed_at_any_file_operation_of_the_write(dense, undisturbed, tmp_path):
    before = digests(dense)
    half_made = whole = 0
    for ranks, (expected, counts) in undisturbed.items():
        for victim, count in enumerate(counts):
            for moment in moments(count):
                out = tmp_path / f"{ranks}-{victim}-{moment}" / "target"
                out.parent.mkdir()
                done = upcycle(dense, out, f"rank={victim}:path=/target/:kill@{moment}", ranks)
                assert digests(dense) == before
                steps = list(out.glob("checkpoints/step-????????"))
                # Which rank finds a folder that another has made is a race: the last operations may not come.
                assert done.returncode != 0 or (steps and moment > count - 5), done.stdout
                if steps:  # the whole folder was renamed just before
                    assert switchyard("verify", steps[0]).returncode == 0 and tensors(steps[0]) == expected
                    whole += 1
                else:
                    assert switchyard("inspect", out).returncode == 3
                    half_made += bool(temporary_folders(out))
    print(f"{half_made} half made, {whole} whole")
    assert half_made >= 5


def test_no_command_takes_what_a_kill_has_left(dense, data, undisturbed, tmp_path):
    out = tmp_path / "target"
    assert upcycle(dense, out, f"path=/target/:kill@{undisturbed[1][1][0] // 2}").returncode != 0
    assert temporary_folders(out)
    assert_no_command_takes_it(out, data)


def test_a_full_disk_is_told_and_leaves_nothing(dense, data, tmp_path):
    before = digests(dense)
    out = tmp_path / "target"
    done = upcycle(dense, out, "rank=1:path=/target/:enospc@3+", ranks=2)
    assert done.returncode == 3 and "No space left on device" in done.stderr, done.stderr
    assert digests(dense) == before
    assert_no_command_takes_it(out, data)
    assert not list(out.rglob("*.safetensors"))
