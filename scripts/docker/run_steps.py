#!/usr/bin/env python3
"""Runs the steps of a Dockerfile where there is no container engine, to see that they work:

    scripts/docker/run_steps.py scripts/docker/cpu.Dockerfile FOLDER [--env NAME=VALUE]... [--mount HOST:INSIDE]...
                                [--build-arg NAME=VALUE]... [-- ARGUMENT...]

As root, on Debian, with debootstrap and the Python of the tests (`scripts/install.sh --tests`). Each stage gets a
fresh Debian 12 in FOLDER/STAGE; FROM, ARG, ENV, SHELL, WORKDIR, COPY, RUN and USER do there what an engine would do, one
after the other, without layers or a cache. --env and --mount (read-only) are what this machine's network needs (a
proxy, a certificate, a folder of wheels), for RUN alone. At the end the last stage's ENTRYPOINT runs, with its CMD or
with the ARGUMENTs. Prints each step with its seconds and the size of each stage; the first failing step ends it.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import time

import dockerfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASE = "debian:12-slim"


def context_names():
    """What .dockerignore lets into the build: its lines `!NAME` after `*`."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().split("\n") if line and not line.startswith("#")]
    if lines[0] != "*" or not all(line.startswith("!") for line in lines[1:]):
        sys.exit("run_steps.py: .dockerignore must be `*` and then `!NAME` lines")
    return {line[1:] for line in lines[1:]}


class Stage:
    """A Debian in `root`, and the settings that steps leave to those after them."""

    def __init__(self, root, options):
        self.root, self.options = root, options
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.arguments, self.shell = {}, ["/bin/sh", "-c"]
        self.folder, self.user = "/", "root"
        self.entry, self.command = [], []

    def inside(self, path):
        return self.root / str(pathlib.PurePosixPath(self.folder) / path).lstrip("/")

    def debootstrap(self):
        subprocess.run(["debootstrap", "--variant=minbase", "bookworm", str(self.root)], check=True,
                       stdout=subprocess.DEVNULL)
        # Fixes and security, as the base image has them.
        (self.root / "etc/apt/sources.list").write_text(
            "deb http://deb.debian.org/debian bookworm main\ndeb http://deb.debian.org/debian bookworm-updates main\n"
            "deb http://deb.debian.org/debian-security bookworm-security main\n")
        (self.root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")  # no services
        (self.root / "usr/sbin/policy-rc.d").chmod(0o755)

    def run(self, command):
        """Of the shell, or of an argument list, in the stage's root, folder, user and environment."""
        mounts = [("--bind", "/dev", "dev"), ("--bind", "/etc/resolv.conf", "etc/resolv.conf")]
        mounts += [("--bind", *mount.split(":")) for mount in self.options.mount]
        script = ["mount -t proc proc \"$0/proc\""]
        for flag, source, target in mounts:
            target = self.root / target.lstrip("/")
            if os.path.isdir(source):
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
            script.append(f"mount {flag} '{source}' '{target}'")
        user = [] if self.user == "root" else [f"--userspec={self.user}:{self.user}"]
        words = command if isinstance(command, list) else [*self.shell, command]
        settings = {**self.environment, **self.arguments, **dict(e.split("=", 1) for e in self.options.env)}
        script.append('exec chroot "${@:2}"')
        # A mount namespace of its own: nothing stays mounted, however the step ends.
        return subprocess.run(
            ["unshare", "--mount", "bash", "-ec", "\n".join(script), str(self.root), "-", *user, str(self.root),
             "/usr/bin/env", "-i", f"--chdir={self.folder}", *(f"{k}={v}" for k, v in settings.items()),
             *words]).returncode

    def copy(self, values, flags, stages):
        *sources, target = values
        options = dict(flag.lstrip("-").split("=", 1) for flag in flags)
        base = stages[options["from"]].root if "from" in options else ROOT
        for source in sources:
            if "from" not in options and pathlib.PurePosixPath(source).parts[0] not in context_names():
                sys.exit(f"run_steps.py: COPY {source}: .dockerignore leaves it out")
            found = base / source.lstrip("/")
            to = self.inside(target)
            if found.is_dir():
                shutil.copytree(found, to, dirs_exist_ok=True, symlinks=True,
                                ignore=shutil.ignore_patterns("__pycache__"))
                continue
            if target.endswith("/"):
                to = to / found.name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, to)
            if "chown" in options and self.run(["chown", options["chown"], "/" + str(to.relative_to(self.root))]):
                sys.exit(f"run_steps.py: --chown={options['chown']} failed")

    def step(self, command, stages):
        """Does one step. Returns an exit code."""
        name, values = command.cmd.upper(), list(command.value)
        if name == "RUN":
            return self.run(values if command.json else values[0])
        if name == "COPY":
            self.copy(values, command.flags, stages)
        elif name == "ARG":
            key, _, default = values[0].partition("=")
            self.arguments[key] = dict(a.split("=", 1) for a in self.options.build_arg).get(key, default)
        elif name == "ENV":  # key, value, separator
            for i in range(0, len(values), 3):
                self.environment[values[i]] = values[i + 1]
        elif name == "WORKDIR":
            self.folder = str(pathlib.PurePosixPath(self.folder) / values[0])
            self.inside("").mkdir(parents=True, exist_ok=True)
        elif name == "SHELL":
            self.shell = values
        elif name == "USER":
            self.user = values[0]
        elif name == "ENTRYPOINT":
            self.entry = values
        elif name == "CMD":
            self.command = values
        elif name not in ("EXPOSE", "LABEL"):
            sys.exit(f"run_steps.py: line {command.start_line}: cannot do {name}")
        return 0


def size_mb(folder):
    """On disk, without /proc and /dev, which are mounted only while steps run."""
    done = subprocess.run(["du", "-sm", str(folder)], capture_output=True, text=True)
    return int(done.stdout.split()[0])


def main():
    arguments, rest = sys.argv[1:], []
    if "--" in arguments:
        rest = arguments[arguments.index("--") + 1:]
        arguments = arguments[:arguments.index("--")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("folder", type=pathlib.Path)
    for flag in ("--env", "--mount", "--build-arg"):
        parser.add_argument(flag, action="append", default=[])
    options = parser.parse_args(arguments)

    stages, stage = {}, None
    for command in dockerfile.parse_file(options.file):
        start = time.monotonic()
        print(f"== {command.original.splitlines()[0]}", flush=True)
        if command.cmd.upper() == "FROM":
            image, _, name = command.value
            if image != BASE:
                sys.exit(f"run_steps.py: a stage from {image}: only {BASE} can be made here")
            stage = stages[name] = Stage(options.folder.resolve() / name, options)
            if stage.root.exists():
                sys.exit(f"run_steps.py: {stage.root} is there already; delete it, or name another folder")
            stage.debootstrap()
        elif code := stage.step(command, stages):
            sys.exit(f"run_steps.py: {options.file}, line {command.start_line}: exit code {code}")
        print(f"-- {time.monotonic() - start:.0f} s", flush=True)
    for name, made in stages.items():
        print(f"{name}: {size_mb(made.root)} MB")
    sys.exit(stage.run([*stage.entry, *(rest or stage.command)]))


if __name__ == "__main__":
    main()
