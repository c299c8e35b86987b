"""The man pages: one for the program and one for each command, without a warning of man or mandoc."""

import os
import re
import subprocess

import pytest
from conftest import switchyard


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("man")
    done = switchyard("man", "--out", folder)
    assert done.returncode == 0 and done.stdout == "", done.stderr
    return folder


def rendered(page):
    done = subprocess.run(["man", "--warnings", "--nh", "--nj", "--local-file", page], capture_output=True, text=True,
                          env={**os.environ, "MANWIDTH": "90", "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return re.sub(r".\x08|\x1b\[[0-9;]*m", "", done.stdout)


def test_there_is_one_for_every_command(pages):
    commands = re.findall(r"^  ([a-z]+) ", switchyard("--help").stdout.split("\nOptions:")[0], re.MULTILINE)
    assert {p.name for p in pages.iterdir()} == {"switchyard.1", *(f"switchyard-{c}.1" for c in commands)}
    whole = rendered(pages / "switchyard.1")
    for command in commands:
        assert re.search(rf"^ +{command}\b", whole, re.MULTILINE) and f"switchyard-{command}(1)" in whole


def test_they_say_what_help_says(pages):
    for page in sorted(pages.glob("switchyard-*.1")):
        text = re.sub(r"\s+", " ", rendered(page))
        command = page.stem.removeprefix("switchyard-")
        help_text = switchyard(command, "--help").stdout
        for entry in re.split(r"\n(?=  -)", help_text.split("\nOptions:\n")[1].split("\n\n")[0]):
            assert re.sub(r"\s+", " ", entry).strip() in text, entry
        for part in "NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "SEE ALSO":
            assert f" {part} " in text


def test_mandoc_has_no_objections(pages):
    done = subprocess.run(["mandoc", "-Tlint", *sorted(pages.iterdir())], capture_output=True, text=True)
    remarks = [line for line in done.stdout.splitlines() if "missing date" not in line]
    assert remarks == []
