"""Jobs that are disturbed: started, killed, asked to stop, given a full disk; and what is left of them."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "python/support"))
from runs import *  # noqa: E402, F403
from runs import BINARY, SOURCE, TEXT, TINY, prepare, sets, wait_until  # noqa: E402

FAULTY = os.environ["SWITCHYARD_FAULTY_BIN"]
TORTURE = os.environ.get("SWITCHYARD_TORTURE") == "1"  # all of a fault's cases, not a sample
# What a test that only wants saves and steps leaves out.
PLAIN = {"train__eval_interval": 0, "train__log_interval": 1, "train__micro_batch_size": 1}


def process_ids_of(run):
    """{rank: process id} of the job that trains into the folder `run`; alone, its rank is 0."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            if f"run.name={run.name}".encode() not in command or f"run.dir={run.parent}".encode() not in command:
                continue
            if b"switchyard" not in os.path.basename(command[0]):
                continue
            rank = re.search(rb"OMPI_COMM_WORLD_RANK=(\d+)", (folder / "environ").read_bytes())
            if (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                found[int(rank[1]) if rank else 0] = int(folder.name)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


class Job:
    """`train configs/tiny.yaml` into the folder `run`, in the background."""

    def __init__(self, run, data, ranks=1, faulty=False, faults="", file_fault="", launcher=(), resume="auto",
                 before=(), cwd=None, **settings):
        self.run = run
        settings = {**PLAIN, "run__dir": run.parent, "run__name": run.name, "data__path": data, "train__threads": 1,
                    **settings}
        command = [*launcher]
        if ranks > 1:
            command += ["mpirun", "--timeout", "200", "-n", str(ranks), "--oversubscribe", "--bind-to", "none"]
        command += [*before, FAULTY if faulty else BINARY, "train", str(TINY), "--resume", str(resume), *sets(settings)]
        self.output = open(run.parent / f"{run.name}.log", "w+")
        self.process = subprocess.Popen(
            command, stdout=self.output, stderr=subprocess.STDOUT, start_new_session=True, cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1",
                 **({"SWITCHYARD_FAILPOINTS": faults} if faults else {}),
                 **({"SWITCHYARD_FILE_FAULT": file_fault} if file_fault else {})})

    def text(self):
        return pathlib.Path(self.output.name).read_text(errors="replace")

    def wait_for(self, words):
        """Until the log has them, or the job is over."""
        wait_until(lambda: words in self.text() or self.process.poll() is not None)
        assert words in self.text(), self.text()

    def step(self):
        """The last step that the log shows."""
        found = re.findall(r"^step (\d+)/", self.text(), re.M)
        return int(found[-1]) if found else 0

    def wait_for_step(self, step):
        wait_until(lambda: self.step() >= step or self.process.poll() is not None)
        assert self.step() >= step, self.text()

    def ranks(self, count):
        """{rank: process id}, once that many are there."""
        return wait_until(lambda: (ids := process_ids_of(self.run)) and len(ids) == count and ids)

    def end(self):
        """The exit code; nothing of the job may be left."""
        self.process.wait(timeout=100)
        wait_until(lambda: not process_ids_of(self.run), seconds=20)
        return self.process.returncode

    def kill(self):
        for process in [self.process.pid, *process_ids_of(self.run).values()]:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(timeout=30)


def acknowledged(text):
    """The step of the last save that a job has said to be done, 0 if none."""
    return max((int(step) for step in re.findall(r"^saved .*/step-(\d+) in", text, re.M)), default=0)


def resumed_at(text):
    """The step that a job went on from, 0 if from none."""
    found = re.search(r"going on from \S*/step-(\d+)", text)
    return int(found[1]) if found else 0


def temporary_folders(run):
    return list((run / "checkpoints").glob("*.tmp-*"))


def newest(run):
    """The step folder that `latest` names."""
    return run / "checkpoints" / (run / "checkpoints/latest").read_text().strip()


def manifest_of(step_dir):
    return json.loads((step_dir / "manifest.json").read_text())


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of byte tokens, for configs/tiny.yaml."""
    return prepare(TEXT, tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture
def start(tmp_path, data):
    """start(name, ranks=.., key=value...) starts a Job in tmp_path/name; it is killed when the test ends."""
    jobs = []

    def begin(name, **arguments):
        jobs.append(Job(tmp_path / name, arguments.pop("data", data), **arguments))
        return jobs[-1]

    yield begin
    for job in jobs:
        job.kill()
