"""Three hosts with an address and a name of their own, a host file, TCP: training with experts across hosts, a cable that is pulled out, and hosts that cannot take part."""

import contextlib
import json
import os
import signal
import subprocess

import pytest
from conftest import BINARY, LAUNCH, numbers, records, switchyard, tensors, training, wait_until
from network import Network

FAULTY = os.environ["SWITCHYARD_FAULTY_BIN"]
RUN = {"parallel__expert": 3, "moe__num_experts": 6, "train__global_batch_size": 12, "train__steps": 24,
       "checkpoint__interval": 5, "checkpoint__async": "false"}
# So that there is time to pull a cable out: the data of a step comes late.
SLOW = ["--program", FAULTY, "-x", "SWITCHYARD_FAILPOINTS=data#*@0=sleep(50)"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def network(folder):
    with Network(folder, 3) as made:
        yield made


@contextlib.contextmanager
def job(network, run, *arguments, options=(), ranks_on=(0, 1, 2)):
    """scripts/launch.sh on the first host; is killed when the block ends. Its output is run's path with .log."""
    hostfile = network.hostfile("hosts.txt", *(f"{network.hosts[i].name} slots=1" for i in ranks_on))
    command = network.hosts[0].inside(LAUNCH, "--hostfile", hostfile, "--interface", "10.77.0.0/24", "--ssh", network.ssh,
                                      *(options or ["--program", BINARY]), *arguments)
    with open(f"{run}.log", "w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                                   # The hosts share this machine's cores, which Open MPI cannot know.
                                   env={**os.environ, "OMPI_MCA_mpi_yield_when_idle": "1"})
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=20)


def text_of(run):
    with open(f"{run}.log") as log:
        return log.read()


def newest(run):
    return run / "checkpoints" / (run / "checkpoints/latest").read_text().strip()


@pytest.fixture(scope="module")
def whole(network, folder, data):
    """A run across the hosts that nothing disturbed, and the bytes that each host sent for it."""
    before = [host.bytes_sent() for host in network.hosts]
    with job(network, folder / "whole", *training(folder, "whole", data, **RUN)) as process:
        assert process.wait(timeout=200) == 0, text_of(folder / "whole")
    return folder / "whole", [host.bytes_sent() - sent for host, sent in zip(network.hosts, before)]


def host_of(run, rank):
    record = (run / f"flight/rank-{rank:05d}.txt").read_text()
    return next(line.split()[1] for line in record.splitlines() if line.startswith("host "))


def test_the_same_losses_as_on_one_machine(whole, folder, data):
    run, _ = whole
    done = switchyard(*training(folder, "local", data, **RUN), ranks=3)
    assert done.returncode == 0, done.stderr
    steps, local = records(run)[0], records(folder / "local")[0]
    assert len(steps) == len(local) == RUN["train__steps"]
    for ours, theirs in zip(steps, local):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    assert [host_of(run, rank) for rank in range(3)] == ["host-0", "host-1", "host-2"]


def test_tokens_cross_the_wire(whole):
    """Each step sends the rows of two MoE layers out and back, forward and backward: two thirds leave the host."""
    _, sent = whole
    tokens, hidden, layers, top_k, passes = 12 // 3 * 32, 32, 2, 2, 4
    rows = RUN["train__steps"] * tokens * top_k * layers * passes * 2 // 3
    # A third of it suffices: which rows leave depends on the router.
    assert min(sent) > rows * hidden * 4 / 3, (sent, rows * hidden * 4)


@pytest.mark.parametrize("cut", [2, 0])
def test_a_cable_pulled_out(cut, whole, network, folder, data):
    """Of a host that mpirun is not on, and of the one that it is on."""
    run = folder / f"cut-{cut}"
    words = training(folder, run.name, data, **RUN)
    try:
        with job(network, run, *words, "--set", "watchdog.timeout_seconds=6",
                 options=[*SLOW, "--grace", "5"]) as process:
            wait_until(lambda: "step 8/" in text_of(run) or process.poll() is not None)
            network.hosts[cut].plug("down")
            code = process.wait(timeout=100)
        text = text_of(run)
        assert code == 75, text
        assert "no progress for 6 s" in text and "all-" in text and "host-0, host-1, host-2" in text, text
        wait_until(lambda: not any(host.processes() for host in network.hosts), seconds=60)
    finally:
        network.hosts[cut].plug("up")
    for rank in range(3):
        record = (run / f"flight/rank-{rank:05d}.txt").read_text()
        assert any(f"status          {state}" in record for state in ("hung", "ending")), record[:2000]
    steps, before = records(run)[0], newest(run)
    assert len(steps) < RUN["train__steps"]
    assert switchyard("verify", before).returncode == 0

    with job(network, folder / f"{run.name}-again", *words) as process:
        assert process.wait(timeout=200) == 0, text_of(folder / f"{run.name}-again")
    assert before.name in text_of(folder / f"{run.name}-again")
    assert numbers(run) == numbers(whole[0])
    assert tensors(newest(run)) == tensors(newest(whole[0]))


def test_a_request_to_stop_reaches_all_hosts(network, folder, data):
    """From a host that has no rank, as under Kubernetes."""
    run = folder / "stopped"
    words = training(folder, "stopped", data, train__steps=10**6, parallel__expert=2)
    with job(network, run, *words, ranks_on=(1, 2)) as process:
        wait_until(lambda: "step 2/" in text_of(run) or process.poll() is not None)
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as children:
            os.kill(int(children.read().split()[0]), signal.SIGTERM)  # launch.sh, whose parent has entered the host
        assert process.wait(timeout=100) == 85, text_of(run)
    assert newest(run).exists() and [host_of(run, rank) for rank in (0, 1)] == ["host-1", "host-2"]
    wait_until(lambda: not any(host.processes() for host in network.hosts), seconds=30)


@contextlib.contextmanager
def mounted(host, *arguments):
    """Over a path of this host alone."""
    subprocess.run(host.inside("mount", *arguments), check=True)
    try:
        yield
    finally:
        subprocess.run(host.inside("umount", arguments[-1]), check=True)


def refused(network, folder, data, hosts):
    hostfile = network.hostfile("refused", *(f"{host} slots=1" for host in hosts))
    done = subprocess.run(
        network.hosts[0].inside(LAUNCH, "--hostfile", hostfile, "--ssh", network.ssh, "--program", BINARY,
                                *training(folder / "shared", "refused", data)), capture_output=True, text=True, timeout=100)
    assert not (folder / "shared/refused").exists() and not list((folder / "shared").glob(".launch-*"))
    return done


def test_a_host_that_is_not_there(network, folder, data):
    done = refused(network, folder, data, ["host-0", "10.77.0.99"])
    assert done.returncode == 4 and "10.77.0.99 cannot be reached" in done.stderr, done.stderr


def test_a_host_with_another_build(network, folder, data):
    with mounted(network.hosts[1], "--bind", "/bin/true", BINARY):
        done = refused(network, folder, data, ["host-0", "host-1"])
    assert done.returncode == 3 and "host-1 has no" in done.stderr and "another build" in done.stderr, done.stderr


def test_a_host_that_does_not_see_the_runs_folder(network, folder, data):
    (folder / "shared").mkdir(exist_ok=True)
    with mounted(network.hosts[2], "-t", "tmpfs", "tmpfs", folder / "shared"):
        done = refused(network, folder, data, ["host-0", "host-1", "host-2"])
    assert done.returncode == 3 and "host-2 does not see the run's folder" in done.stderr, done.stderr


def test_a_config_that_is_refused_is_told_by_the_ranks(network, folder, data):
    with job(network, folder / "bad", *training(folder, "bad", data, optim__lr=-1)) as process:
        assert process.wait(timeout=100) == 2, text_of(folder / "bad")
    assert "optim.lr" in text_of(folder / "bad") and not any(host.processes() for host in network.hosts)


def test_what_is_made_is_gone(tmp_path):
    with Network(tmp_path, 1) as made:
        space, init = made.switch, made.hosts[0].init
        assert space in subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout
    assert made.prefix + "-0" not in subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout
    wait_until(lambda: not os.path.exists(f"/proc/{init}"), seconds=20)
    assert json.dumps(sorted(path.name for path in tmp_path.glob("*_key"))) == '["host_key", "user_key"]'
