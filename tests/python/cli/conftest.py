"""Runs the commands as a user types them, alone or under mpirun, on a small real text."""

import json
import os
import pathlib
import subprocess

import pytest

SOURCE = pathlib.Path(os.environ["SWITCHYARD_SOURCE_DIR"])
BINARY = os.environ["SWITCHYARD_BIN"]
TEXT = pathlib.Path(__file__).with_name("austen.txt")  # Pride and Prejudice, 1813: public domain


def switchyard(*arguments, ranks=1, cwd=None):
    """The finished process; ranks above 1 (or `mpirun=True` worlds of one) go through mpirun."""
    command = [BINARY, *map(str, arguments)]
    if ranks > 1:
        command = ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=cwd, env=environment)


def records(run):
    """metrics.jsonl of a run folder: the steps, and the evaluations."""
    lines = [json.loads(line) for line in (pathlib.Path(run) / "metrics.jsonl").read_text().splitlines()]
    return [r for r in lines if "eval" not in r], [r for r in lines if "eval" in r]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of byte tokens, for configs/tiny.yaml."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    done = switchyard("prepare", "--text", TEXT, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def train(tmp_path, data):
    """train(name, key=value..., ranks=1, resume="auto") trains configs/tiny.yaml in tmp_path."""

    def run(name, ranks=1, resume="auto", check=True, **settings):
        words = ["train", SOURCE / "configs/tiny.yaml", "--resume", resume]
        settings = {"run.dir": tmp_path, "run.name": name, "data.path": data, "train.threads": 1,
                    **{key.replace("__", "."): value for key, value in settings.items()}}
        for key, value in settings.items():
            words += ["--set", f"{key}={value}"]
        done = switchyard(*words, ranks=ranks)
        assert not check or done.returncode == 0, done.stderr
        return done

    return run
