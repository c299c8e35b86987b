"""scripts/launch.sh on one machine: it starts the ranks, passes signals on, and says what is wrong with its arguments."""

import os
import signal
import subprocess

import pytest
from conftest import BINARY, LAUNCH, records, training, wait_until


def launch(*arguments, **environment):
    return subprocess.run([LAUNCH, *map(str, arguments)], capture_output=True, text=True, timeout=100,
                          env={**os.environ, **environment})


def test_ranks_of_this_machine(data, tmp_path):
    done = launch("-n", 2, "--program", BINARY, *training(tmp_path, "run", data, train__steps=2))
    assert done.returncode == 0, done.stderr
    assert "2 ranks" in done.stderr and len(records(tmp_path / "run")[0]) == 2


def test_the_code_of_the_run_is_passed_on(data, tmp_path):
    done = launch("-n", 2, "--program", BINARY, *training(tmp_path, "run", data, optim__lr=-1))
    assert done.returncode == 2 and "optim.lr" in done.stderr, done.stderr


@pytest.mark.parametrize("ask", [signal.SIGTERM, signal.SIGUSR1])
def test_a_request_to_stop_saves(ask, data, tmp_path):
    command = [LAUNCH, "-n", "2", "--program", BINARY, *training(tmp_path, "run", data, train__steps=10**6)]
    log = tmp_path / "log"
    with open(log, "w") as output:
        job = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_until(lambda: "step 2/" in log.read_text() or job.poll() is not None)
        job.send_signal(ask)
        assert job.wait(timeout=100) == 85, log.read_text()
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)


def test_a_rank_gets_its_share_of_the_cores_and_what_x_names(tmp_path):
    shows = tmp_path / "shows"
    shows.write_text('#!/bin/sh\necho "threads=$OMP_NUM_THREADS lent=$LENT"\n')
    shows.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    cores = len(os.sched_getaffinity(0))
    for ranks, threads in ((1, cores), (cores, 1), (2 * cores, 1)):
        done = subprocess.run([LAUNCH, "-n", str(ranks), "--program", shows, "-x", "LENT=7", "show"], capture_output=True,
                              text=True, timeout=100, env=environment)
        assert done.stdout.splitlines() == [f"threads={threads} lent=7"] * ranks, done


@pytest.mark.parametrize("arguments, message", [
    (["-n", "two", "train"], "not a number of ranks"),
    (["-n", "2"], "no command"),
    (["-n"], "-n needs a value"),
    (["--ranks", "2", "train"], "unknown option --ranks"),
    (["-n", "1", "--program", "/nowhere/switchyard", "train"], "not a program"),
    (["--hostfile", "/nowhere/hosts", "train"], "/nowhere/hosts: no such file"),
    (["--interface", "eth0", "train"], "say -n RANKS or --hostfile FILE"),
    (["-n", "1", "--grace", "0", "train"], "not a number of seconds"),
])
def test_arguments_that_cannot_be(arguments, message):
    done = launch(*([*arguments[:2], "--program", BINARY, *arguments[2:]] if len(arguments) > 2 else arguments))
    assert done.returncode == 2 and message in done.stderr, done


@pytest.mark.parametrize("lines, arguments, message", [
    ("node-a slots=2\nnode-b slots=x\n", [], "2: slots=x"),
    ("# none\n\n", [], "no host in it"),
    ("node-a slots=2\nnode-b slots=2\n", ["-n", "5"], "has 4 slots"),
    ("node-a\nnode-b slots=2\n", [], "say slots=RANKS for each host, or give -n RANKS"),
])
def test_host_files_that_cannot_be(lines, arguments, message, tmp_path):
    hosts = tmp_path / "hosts.txt"
    hosts.write_text(lines)
    done = launch("--hostfile", hosts, *arguments, "--program", BINARY, "train", "run.yaml")
    assert done.returncode == 2 and message in done.stderr, done
