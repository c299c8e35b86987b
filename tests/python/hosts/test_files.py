"""What is written for other machines and cannot run here: the Dockerfiles and the Kubernetes manifest. Linted, validated, and compared with the scripts they call."""

import pathlib
import re
import subprocess
import sys

import dockerfile
import kubernetes_validate
import pytest
import yaml
from conftest import SOURCE

DOCKER = SOURCE / "scripts/docker"
FILES = ["cpu.Dockerfile", "cuda.Dockerfile"]


@pytest.mark.parametrize("name", FILES)
def test_hadolint_has_no_objections(name):
    linter = pathlib.Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, "--no-color", DOCKER / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def steps(name):
    return dockerfile.parse_file(str(DOCKER / name))


@pytest.mark.parametrize("name", FILES)
def test_bases_are_pinned_and_the_user_is_not_root(name):
    for step in steps(name):
        if step.cmd == "FROM":
            assert step.value[0] == "debian:12-slim"
    assert [step.value[0] for step in steps(name) if step.cmd == "USER"] == ["1000"]


@pytest.mark.parametrize("name", FILES)
def test_what_is_copied_is_there_and_in_the_context(name):
    ignore = (SOURCE / ".dockerignore").read_text().split("\n")
    for step in steps(name):
        if step.cmd == "COPY" and not any(flag.startswith("--from") for flag in step.flags):
            for source in step.value[:-1]:
                assert (SOURCE / source).exists() and f"!{source.split('/')[0]}" in ignore, source


@pytest.mark.parametrize("name", FILES)
def test_scripts_are_there_and_know_their_options(name):
    for step in steps(name):
        for script, options in re.findall(r"(scripts/\w+\.sh)((?: --\w+)*)", " ".join(step.value)) if step.cmd == "RUN" else []:
            text = (SOURCE / script).read_text()
            for option in options.split():
                assert re.search(rf"^ +{option}\)", text, re.M), (script, option)


@pytest.mark.parametrize("name", FILES)
def test_the_program_finds_what_it_needs_in_the_image(name):
    """Each library of the program comes from a package of the runtime stage, from LibTorch, or with Debian itself."""
    runtime = " ".join(" ".join(step.value) for step in steps(name) if step.cmd == "RUN")
    build = SOURCE / "third_party/apt-packages.txt"
    for library in re.findall(r"^lib([\w-]+)-dev$", build.read_text(), re.M):
        if library in ("cli11", "xxhash"):  # headers only
            continue
        assert f"lib{library[:5]}" in runtime, library


MANIFEST = SOURCE / "docs/cluster/mpijob.yaml"


@pytest.fixture(scope="module")
def manifest():
    return list(yaml.safe_load_all(MANIFEST.read_text()))


def test_the_claim_and_the_pods_are_valid(manifest):
    """Against Kubernetes' own schema, strictly: unknown keys are errors."""
    claim, job = manifest
    kubernetes_validate.validate(claim, "1.30", strict=True)
    for name, replica in job["spec"]["mpiReplicaSpecs"].items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name.lower()}, "spec": replica["template"]["spec"]}
        kubernetes_validate.validate(pod, "1.30", strict=True)
        pod["spec"]["container"] = pod["spec"].pop("containers")
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(pod, "1.30", strict=True)
        pod["spec"]["containers"] = pod["spec"].pop("container")


def test_the_job_has_the_keys_of_v2beta1(manifest):
    """The schema of the MPI operator is in no registry: its keys, as its documentation has them."""
    job = manifest[1]
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v2beta1", "MPIJob")
    spec = job["spec"]
    assert set(spec) <= {"slotsPerWorker", "runLauncherAsWorker", "runPolicy", "mpiReplicaSpecs", "sshAuthMountPath",
                         "launcherCreationPolicy", "mpiImplementation"}
    assert spec["launcherCreationPolicy"] in ("AtStartup", "WaitForWorkersReady")
    assert set(spec["runPolicy"]) <= {"cleanPodPolicy", "ttlSecondsAfterFinished", "activeDeadlineSeconds", "backoffLimit",
                                      "schedulingPolicy", "suspend"}
    assert set(spec["mpiReplicaSpecs"]) == {"Launcher", "Worker"} and spec["mpiReplicaSpecs"]["Launcher"]["replicas"] == 1
    for replica in spec["mpiReplicaSpecs"].values():
        assert set(replica) == {"replicas", "restartPolicy", "template"} and replica["restartPolicy"] in ("Never", "OnFailure")


def test_the_job_fits_the_image(manifest):
    """Paths, user and port of the manifest are those of the Dockerfile."""
    spec = manifest[1]["spec"]
    image = (DOCKER / "cpu.Dockerfile").read_text()
    sshd = (DOCKER / "sshd_config").read_text()
    assert spec["sshAuthMountPath"] == "/home/switchyard/.ssh" and f"HostKey {spec['sshAuthMountPath']}/id_rsa" in sshd
    for replica in spec["mpiReplicaSpecs"].values():
        pod = replica["template"]["spec"]
        assert pod["securityContext"]["runAsUser"] == 1000 and "--uid 1000" in image
        assert pod["containers"][0]["image"] == "switchyard:cpu"
    launcher, worker = (spec["mpiReplicaSpecs"][name]["template"]["spec"]["containers"][0] for name in ("Launcher", "Worker"))
    assert f" {launcher['command'][0]}\n" in image
    assert worker["args"][-1] == "/home/switchyard/.sshd_config" and f" {worker['args'][-1]}\n" in image
    assert f"Port {worker['ports'][0]['containerPort']}\n" in sshd and "Port 2222" in (DOCKER / "ssh_config").read_text()


def test_a_drained_worker_asks_its_ranks_to_stop(manifest, tmp_path):
    """Runs the preStop command beside a process of the program's name; it waits until that has left."""
    command = manifest[1]["spec"]["mpiReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    program = tmp_path / "switchyard"
    program.write_text("#!/bin/bash\ntrap 'sleep 1; echo asked; exit 85' USR1\necho ready\nwhile true; do sleep 0.1; done\n")
    program.chmod(0o755)
    # In a process namespace of their own: other runs of this machine are not to be asked.
    script = f'{program} > {tmp_path}/out & until grep -qs ready {tmp_path}/out; do sleep 0.1; done; "$@"; wait $!; echo "code $?"'
    done = subprocess.run(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", script, "-", *command],
                          capture_output=True, text=True, timeout=60)
    assert done.stdout == "code 85\n" and (tmp_path / "out").read_text() == "ready\nasked\n", done
