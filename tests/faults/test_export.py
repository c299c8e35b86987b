"""An export or import that is killed, or whose disk fails: nothing is left that anyone would take for a model."""

import os
import pathlib
import shutil
import subprocess

import pytest
from conftest import FAULTY, TORTURE, train_tiny
from runs import files_in, flip_byte_of, switchyard

# Of a pass over all file operations, the share that the sample takes.
SAMPLE = 1 if TORTURE else 6


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    """A trained run and, beside it, the folder that it is exported to when nothing fails."""
    folder = tmp_path_factory.mktemp("runs")
    train_tiny(folder, data, "run", train__steps=1, train__eval_interval=0, moe__layers="all")
    assert attempt(folder / "run", folder / "hf").returncode == 0
    return folder / "run"


def attempt(run, out, fault="", failpoints=""):
    """Exports in files of 100 KB, with a fault."""
    command = [FAULTY, "export", "--checkpoint", run, "--shard-size", "100KB", "--out", out]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SWITCHYARD_FILE_FAULT": fault,
                   "SWITCHYARD_FAILPOINTS": failpoints}
    environment = {key: value for key, value in environment.items() if value}
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=100, env=environment)


def new_place(folder, name):
    out = folder / name / "hf"
    out.parent.mkdir()
    return out


def sample(run, folder, every):
    """1, ... to the number of file operations of an export on what it writes: some of them, and the last."""
    out = new_place(folder, "counted")
    assert attempt(run, out, f"path={out.parent}:count:{folder}/count").returncode == 0
    count = int((folder / "count.0").read_text())
    assert count > 30
    return sorted({*range(1, count + 1, every), count})


def contents(folder):
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


def test_a_kill_at_any_file_operation(run, tmp_path):
    left = set()
    for k in sample(run, tmp_path, SAMPLE):
        out = new_place(tmp_path, f"{k}")
        assert attempt(run, out, f"path={out.parent}:kill@{k}").returncode == -9
        assert not out.exists() or contents(out) == reference(run)
        left |= {path.name.split("-")[0] for path in out.parent.iterdir()}
        if not out.exists():
            assert attempt(run, out).returncode == 0, "a second try is not hindered by what is left"
        assert contents(out) == reference(run)
    assert left == {"hf.tmp", "hf"}, "kills before the rename, and behind it"


def reference(run):
    """The card is named after the folder; all are called hf."""
    return contents(run.parent / "hf")


@pytest.mark.parametrize("point", ["export.tensors", "export.publish"])
def test_a_kill_when_all_is_written(point, run, tmp_path):
    assert attempt(run, tmp_path / "hf", failpoints=f"{point}=kill").returncode == -9
    left, = tmp_path.iterdir()
    assert left.name.startswith("hf.tmp-") and "model-00001-of-00004.safetensors" in files_in(left)


@pytest.mark.parametrize("deed", ["enospc", "eio"])
def test_a_disk_that_fails(deed, run, tmp_path):
    failures = 0
    for k in sample(run, tmp_path, SAMPLE):
        out = new_place(tmp_path, f"{k}")
        done = attempt(run, out, f"path={out.parent}:{deed}@{k}")
        if done.returncode == 0:  # the operation was one whose failure is of no consequence
            assert contents(out) == reference(run)
            continue
        failures += 1
        assert done.returncode == 3 and str(out.parent) in done.stderr, done.stderr
        assert not list(out.parent.iterdir()), "neither the folder nor its temporary one"
    assert failures >= 5


def test_a_damaged_checkpoint_leaves_no_folder(run, tmp_path):
    """Found while its tensor is written, when others are already."""

    shutil.copytree(run, tmp_path / "run")
    step = tmp_path / "run/checkpoints/step-00000001"
    flip_byte_of(step, "model.norm.weight")
    done = attempt(step, tmp_path / "hf")
    assert done.returncode == 3 and "model.norm.weight" in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_import_that_is_killed(run, tmp_path):
    """It leaves the source as it was, and no checkpoint."""
    before = contents(run.parent / "hf")
    command = [FAULTY, "import", "--from", run.parent / "hf", "--out", tmp_path / "imported"]
    environment = {**os.environ, "SWITCHYARD_FAILPOINTS": "save.commit=kill"}
    done = subprocess.run([str(word) for word in command], capture_output=True, env=environment, timeout=100)
    assert done.returncode == -9
    assert contents(run.parent / "hf") == before
    refused = switchyard("verify", tmp_path / "imported")
    assert refused.returncode == 3, refused.stderr
    steps = [path.name for path in pathlib.Path(tmp_path / "imported/checkpoints").iterdir()]
    assert len(steps) == 1 and steps[0].startswith("step-00000000.tmp-")
