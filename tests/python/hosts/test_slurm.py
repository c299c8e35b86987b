"""scripts/slurm.sbatch in a Slurm of its own: controller, two nodes and munge, on hosts made of network namespaces."""

import os
import re
import shutil
import subprocess

import pytest
from conftest import BINARY, LAUNCH, records, training, wait_until
from network import Network

FAULTY = os.environ["SWITCHYARD_FAULTY_BIN"]
SOURCE = os.environ["SWITCHYARD_SOURCE_DIR"]
SBATCH = f"{SOURCE}/scripts/slurm.sbatch"


class Slurm:
    """Slurm's daemons on the hosts of a network; all they keep is in `folder`."""

    def __init__(self, network, folder):
        self.network, self.folder = network, folder
        for name in ("state", "spool", "munge", *(f"spool/{host.name}" for host in network.hosts)):
            (folder / name).mkdir(mode=0o700)
        key = folder / "munge/key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        nodes = "".join(f"NodeName={h.name} NodeAddr={h.address} CPUs=2 State=UNKNOWN\n" for h in network.hosts)
        (folder / "slurm.conf").write_text(f"""
ClusterName=switchyard
SlurmctldHost=host-0(10.77.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=2
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
MailProg=/bin/true
{nodes}PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
""")
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # of which nothing is used
        self.environment = {**{k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "OMPI_"))},
                            "SLURM_CONF": str(folder / "slurm.conf"), "OMPI_MCA_mpi_yield_when_idle": "1"}
        self._begin(network.hosts[0], "munged", "--foreground", "--force", f"--socket={folder}/munge/socket",
                    f"--key-file={key}", f"--pid-file={folder}/munge/pid", f"--log-file={folder}/munge/log",
                    f"--seed-file={folder}/munge/seed")
        wait_until(lambda: (folder / "munge/socket").exists(), seconds=20)
        self._begin(network.hosts[0], "slurmctld", "-D")
        for host in network.hosts:
            self._begin(host, "slurmd", "-D", "-N", host.name)
        try:
            wait_until(lambda: self("sinfo", "--noheader", "--format=%T %D", check=False).split() ==
                       ["idle", str(len(network.hosts))], seconds=60)
        except AssertionError as error:
            logs = [f"{path}:\n{path.read_text()[-3000:]}" for path in sorted(folder.rglob("*log"))]
            raise AssertionError("Slurm does not start:\n" + "\n".join(logs)) from error

    def _begin(self, host, *command):
        """A daemon; it ends with its host."""
        log = open(self.folder / f"{host.name}-{command[0]}.out.log", "w")
        subprocess.Popen(host.inside(*command), stdout=log, stderr=subprocess.STDOUT, env=self.environment,
                         start_new_session=True)

    def __call__(self, *command, check=True, **environment):
        done = subprocess.run(self.network.hosts[0].inside(*command), capture_output=True, text=True, timeout=60,
                              env={**self.environment, **environment})
        assert not check or done.returncode == 0, (command, done.stderr)
        return done.stdout

    def submit(self, output, *arguments, options=(), **environment):
        """The job's number. Its output, of all tries, is in `output`."""
        text = self("env", f"--chdir={self.folder}", "sbatch", "--parsable", f"--output={output}", *options, SBATCH,
                    *arguments, SWITCHYARD_HOME=SOURCE, **environment)
        return text.strip()

    def job(self, number):
        """What Slurm says of it: JobState, Restarts, ExitCode, ..."""
        return dict(re.findall(r"(\w+)=(\S+)", self("scontrol", "show", "job", number)))

    def end_of(self, number):
        final = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        wait_until(lambda: self.job(number)["JobState"] in final, seconds=150)
        return self.job(number)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    # munged wants a folder that nobody else may write to, up to the root.
    folder = tmp_path_factory.mktemp("slurm")
    with Network(folder, 2) as network:
        yield Slurm(network, folder)
    shutil.rmtree(folder)


def stand_in(folder, codes):
    """A program that ends with one code after the other."""
    program = folder / "program"
    program.write_text(f"""#!/bin/bash
[ "${{OMPI_COMM_WORLD_RANK:-0}}" = 0 ] || exit 0
codes=({" ".join(map(str, codes))})
n=$(cat {folder}/tries 2>/dev/null || echo 0)
echo $((n + 1)) > {folder}/tries
exit ${{codes[$n]}}
""")
    program.chmod(0o755)
    return program


# The codes of a job's tries; how many there are, and how it ends. The limit is one failure
# in a row: a failure, a stop that forgets it, another, and one too many.
DECISIONS = {(75, 85, 4, 75, 0): (4, "FAILED"), (2, 0): (1, "FAILED"), (86, 0): (1, "FAILED")}


@pytest.fixture(scope="module")
def deciding(slurm, tmp_path_factory):
    """{codes: (folder, number)} of jobs in the queue, all at once: it takes Slurm 6 seconds to bring one back."""
    jobs = {}
    for codes in DECISIONS:
        folder = tmp_path_factory.mktemp("deciding")
        jobs[codes] = folder, slurm.submit(
            folder / "log", "run.yaml", options=["--ntasks-per-node=1"], MAX_FAILURES="1",
            SWITCHYARD_PROGRAM=str(stand_in(folder, codes)))
    return jobs


def test_a_time_limit_saves_and_the_run_comes_back(slurm, deciding, data, tmp_path):
    """On two nodes, one rank each, beside the jobs `deciding`. The signal is the one that --signal=B:USR1@120 sends."""
    log = tmp_path / "log"
    number = slurm.submit(log, *training(tmp_path, "run", data, train__steps=20, parallel__expert=2,
                                         train__check_replicas_interval=0)[1:],
                          options=["--nodes=2", "--ntasks-per-node=1"], SWITCHYARD_PROGRAM=FAULTY,
                          SWITCHYARD_FAILPOINTS="data#*@0=sleep(60)")
    wait_until(lambda: log.exists() and "step 5/" in log.read_text() or slurm.job(number)["JobState"] == "FAILED")
    slurm("scancel", "--batch", "--signal=USR1", number)
    job = slurm.end_of(number)
    text = log.read_text()
    assert job["JobState"] == "COMPLETED" and job["Restarts"] == "1", (job, text)
    assert "exit code 85, asked to stop, saved: back to the queue" in text and "going on from" in text, text
    assert [r["step"] for r in records(tmp_path / "run")[0]] == list(range(1, 21))
    hosts = {(tmp_path / f"run/flight/rank-0000{rank}.txt").read_text().split("host ")[1].split()[0] for rank in (0, 1)}
    assert hosts == {"host-0", "host-1"}


@pytest.mark.parametrize("codes", DECISIONS)
def test_the_exit_code_decides(slurm, deciding, codes):
    folder, number = deciding[codes]
    tries, state = DECISIONS[codes]
    job = slurm.end_of(number)
    text = (folder / "log").read_text()
    assert (job["JobState"], int((folder / "tries").read_text())) == (state, tries), (job, text)
    assert job["ExitCode"] == f"{codes[tries - 1]}:0" and not list(slurm.folder.glob(f".switchyard-{number}.*"))


SRUN = "srun --mpi=pmix --kill-on-bad-exit=1"


def test_srun_starts_ranks_too(slurm, data, tmp_path):
    number = slurm.submit(tmp_path / "log", *training(tmp_path, "run", data, train__steps=3, parallel__expert=2)[1:],
                          SWITCHYARD_PROGRAM=BINARY, LAUNCHER=SRUN)
    job = slurm.end_of(number)
    assert job["JobState"] == "COMPLETED" and "2 ranks = EP 2" in (tmp_path / "log").read_text(), job
    assert len(records(tmp_path / "run")[0]) == 3


def test_no_config_is_said(slurm, tmp_path):
    number = slurm.submit(tmp_path / "log")
    assert slurm.end_of(number)["ExitCode"] == "2:0" and "no config" in (tmp_path / "log").read_text()


def test_a_config_may_come_from_the_environment(slurm, tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho \"words: $*\"\n")
    program.chmod(0o755)
    number = slurm.submit(tmp_path / "log", "--set", "train.steps=3", options=["--ntasks-per-node=1"], CONFIG="x.yaml",
                          SWITCHYARD_PROGRAM=str(program))
    assert slurm.end_of(number)["JobState"] == "COMPLETED"
    assert "words: train x.yaml --set train.steps=3" in (tmp_path / "log").read_text()
    assert os.path.exists(LAUNCH) and os.path.exists(BINARY)
