"""Runs the commands as a user types them, alone or under mpirun, on a small real text."""

import json
import os
import pathlib
import subprocess

import pytest

SOURCE = pathlib.Path(os.environ["SWITCHYARD_SOURCE_DIR"])
TINY = SOURCE / "configs/tiny.yaml"
BINARY = os.environ["SWITCHYARD_BIN"]
TEXT = pathlib.Path(__file__).with_name("austen.txt")  # Pride and Prejudice, 1813: public domain


def switchyard(*arguments, ranks=1, cwd=None):
    """The finished process. More than one rank are started with mpirun."""
    command = [BINARY, *map(str, arguments)]
    if ranks > 1:
        command = ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=240, cwd=cwd,
                          env=environment)


def sets(settings):
    """{"train__steps": 3} as the flags --set train.steps=3."""
    return [word for key, value in settings.items() for word in ("--set", f"{key.replace('__', '.')}={value}")]


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def log_of(run):
    """metrics.jsonl of a run folder, object by object."""
    return [json.loads(line) for line in (pathlib.Path(run) / "metrics.jsonl").read_text().splitlines()]


def records(run):
    """metrics.jsonl of a run folder: the steps, and the evaluations."""
    return [r for r in log_of(run) if "eval" not in r], [r for r in log_of(run) if "eval" in r]


def flip_byte_of(step_dir, tensor):
    """Damages a tensor of a checkpoint."""
    manifest = json.loads((step_dir / "manifest.json").read_text())
    piece = next(t for t in manifest["tensors"] if t["name"] == tensor)["slices"][0]
    content = bytearray((step_dir / piece["file"]).read_bytes())
    content[piece["offset"]] ^= 1
    (step_dir / piece["file"]).write_bytes(content)


def prepare(text, folder, *flags):
    done = switchyard("prepare", "--text", text, "--out", folder, *flags)
    assert done.returncode == 0, done.stderr
    return folder


def train_tiny(folder, data, name, ranks=1, resume="auto", check=True, **settings):
    """Trains configs/tiny.yaml into folder/name."""
    settings = {"run__dir": folder, "run__name": name, "data__path": data, "train__threads": 1, **settings}
    done = switchyard("train", TINY, "--resume", resume, *sets(settings), ranks=ranks)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of byte tokens, for configs/tiny.yaml."""
    return prepare(TEXT, tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture
def train(tmp_path, data):
    """train(name, key=value..., ranks=1, resume="auto") trains configs/tiny.yaml in tmp_path."""

    def run(name, **settings):
        return train_tiny(tmp_path, settings.pop("data__path", data), name, **settings)

    return run
