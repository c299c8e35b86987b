"""Completion in real shells, of a script that is made of the flags themselves."""

import functools
import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest
from conftest import BINARY, switchyard

SHELLS = ("bash", "zsh", "fish")


@functools.cache
def printed(*words):
    return switchyard(*words).stdout


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """{shell: its script}, and a program of the name switchyard."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "switchyard").symlink_to(BINARY)
    for shell in SHELLS:
        done = switchyard("completion", shell)
        assert done.returncode == 0 and done.stderr == ""
        (folder / shell).write_text(done.stdout)
    return folder


@pytest.fixture
def place(tmp_path):
    (tmp_path / "first.yaml").write_text("")
    (tmp_path / "runs").mkdir()
    return tmp_path


def bash(scripts, place, line):
    program = f'source {scripts}/bash; COMP_LINE=$1 COMP_POINT=${{#1}}; _switchyard; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "--norc", "-c", program, "bash", line], capture_output=True, text=True, cwd=place)
    assert done.stderr == ""
    return done.stdout.split()


def fish(scripts, place, line):
    environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "HOME": str(place)}
    done = subprocess.run(["fish", "--no-config", "-c", f"source {scripts}/fish; complete -C $argv[1]", line],
                          capture_output=True, text=True, cwd=place, env=environment)
    assert done.returncode == 0, done.stderr
    return [row.split("\t")[0] for row in done.stdout.splitlines()]


def typed(shell, start, keys, place, until):
    """What an interactive shell that has run `start` shows once `keys` are typed, up to the text that is waited for."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(place)
        os.environ.update(HOME=str(place), TERM="xterm", ZDOTDIR=str(place))
        os.execvp(shell[0], shell)
    end = time.monotonic() + 60  # a guard, not a claim about speed

    def shown_up_to(text):
        shown = ""
        while text not in shown and time.monotonic() < end:
            if select.select([terminal], [], [], 1)[0]:
                shown += os.read(terminal, 65536).decode(errors="replace")
                shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
                while "\b" in shown[1:]:
                    shown = re.sub(r"[^\b]\x08", "", shown)
        assert text in shown, shown
        return shown

    try:
        # The prompt appears once the shell reads keys; in the line that sets it, it is in two.
        os.write(terminal, f"{start}; PS1='REA''DY> '\n".encode())
        shown_up_to("READY> ")
        os.write(terminal, keys.encode())
        return shown_up_to(until)
    finally:
        os.kill(process, 9)
        os.waitpid(process, 0)
        os.close(terminal)


CASES = [
    ("switchyard ev", {"eval"}, {"train"}),
    ("switchyard eval --s", {"--split", "--sequence-length"}, {"--data"}),
    ("switchyard eval --split ", {"val", "train"}, {"--data"}),
    ("switchyard generate --precision b", {"bf16"}, {"fp32"}),
    ("switchyard train fi", {"first.yaml"}, set()),
    ("switchyard train --resume st", {"strict"}, {"never"}),
    ("switchyard eval --checkpoint r", {"runs"}, {"--split"}),
    ("switchyard train first.yaml --set optim.l", {"optim.lr=", "optim.lr_scale="}, {"optim.eps="}),
    ("switchyard completion f", {"fish"}, {"bash"}),
]


@pytest.mark.parametrize("line, there, absent", CASES, ids=[c[0] for c in CASES])
@pytest.mark.parametrize("complete", [bash, fish])
def test_completes(complete, line, there, absent, scripts, place):
    found = {word.rstrip("/") for word in complete(scripts, place, line)}
    assert there <= found and not absent & found


def test_values_of_config_keys(scripts, place):
    line = "switchyard train first.yaml --set moe.router.type=s"
    # Readline breaks words at =, fish does not.
    assert {"switch", "sinkhorn"} <= set(bash(scripts, place, line))
    assert {"moe.router.type=switch", "moe.router.type=sinkhorn"} <= set(fish(scripts, place, line))
    assert bash(scripts, place, "switchyard train x --set checkpoint.async=f") == ["false"]


def test_bash_completes_behind_mpirun_and_a_path(scripts, place):
    assert bash(scripts, place, "mpirun -n 2 build/release/switchyard train --dr") == ["--dry-run"]
    assert bash(scripts, place, "mpirun -n 2 hostname --dr") == []


def test_bash_on_a_keyboard(scripts, place):
    typed(["bash", "--norc", "-i"], f"source {scripts}/bash", "switchyard generate --ch\t\t", place, "--checkpoint")


@pytest.mark.parametrize("keys, until", [
    ("switchyard gen\t--max\t", "generate --max-new-tokens"),
    ("switchyard eval --split v\t", "--split val"),
    ("switchyard train f\t--set optim.lr_\t", "first.yaml --set optim.lr_scale="),
    ("switchyard train --set moe.router.type=sw\t", "moe.router.type=switch"),
])
def test_zsh_on_a_keyboard(keys, until, scripts, place):
    shutil.copy(scripts / "zsh", place / "_switchyard")
    start = f"PATH={scripts}:$PATH; fpath=({place} $fpath); autoload -Uz compinit; compinit -u -D"
    typed(["zsh", "-f", "-i"], start, keys, place, until)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_names_everything(shell, scripts):
    """All commands and flags of --help, all keys of --help-config."""
    script = (scripts / shell).read_text()
    keys = re.findall(r"^  ([a-z0-9_.]+): ", printed("train", "--help-config"), re.MULTILINE)
    assert len(keys) > 100
    for key in keys:
        assert f"{key}=" in script, key
    for command in re.findall(r"^  ([a-z]+) ", printed("--help").split("\nOptions:")[0], re.MULTILINE):
        assert command in script
        for flag in re.findall(r"^  --([a-z-]+)", printed(command, "--help"), re.MULTILINE):
            assert re.search(rf"-{flag}\b|-l {flag}\b", script), (command, flag)


def test_an_unknown_shell():
    done = switchyard("completion", "tcsh")
    assert done.returncode == 2 and "`tcsh` is not one of bash, zsh, fish" in done.stderr and done.stdout == ""
