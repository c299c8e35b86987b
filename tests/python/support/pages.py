"""What a page of docs/ promises: its fenced blocks, run in order as a reader would, and what they print."""

import dataclasses
import os
import re
import subprocess

from runs import SOURCE

PRECISION = re.compile(r"\b(bf16|fp32)\b")
NUMBER = re.compile(r"-?\d[\d,.]*(e[+-]?\d+)?")
UNIT = re.compile(r"(#\s?(h|m|s|ms|[KMGT]i?B|[kMB])(?![a-zA-Z]))+")  # a larger number may have a larger one


@dataclasses.dataclass
class Block:
    language: str  # "bash", "text sample": the words behind the fence
    text: str
    line: int


def blocks(page):
    """The fenced blocks of docs/PAGE."""
    found, start, lines = [], None, (SOURCE / "docs" / page).read_text().splitlines()
    for i, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = i
        else:
            found.append(Block(lines[start][3:].strip(), "\n".join(lines[start + 1:i]), start + 1))
            start = None
    assert start is None, f"{page}:{start}: a block without an end"
    return found


def reader(folder):
    """A reader's place: the repository with folders of his own for data and runs, and room for two ranks."""
    (folder / "build").mkdir()
    (folder / "build/release").symlink_to(os.path.dirname(os.environ["SWITCHYARD_BIN"]))
    for name in "configs", "docs", "scripts", "tests":
        (folder / name).symlink_to(SOURCE / name)
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
            "OMPI_MCA_hwloc_base_binding_policy": "none"}


def run(block, folder, environment):
    """What a block prints, errors and all."""
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", block.text], cwd=folder, env=environment, text=True,
                          errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    assert done.returncode == 0, f"line {block.line}:\n{block.text}\n{done.stdout}"
    return done.stdout


def shape(line):
    """A line without its numbers, their units, the precision that the processor is fast in, and its runs of spaces."""
    return re.sub(r"\s+", " ", UNIT.sub("#", NUMBER.sub("#", PRECISION.sub("#", line)))).strip()


def assert_shown(block, output):
    """Every line of the page is in the output, in this order, up to numbers. Three dots stand for anything."""
    printed = [shape(line) for line in output.splitlines()]
    for line in block.text.splitlines():
        if line.strip() in ("", "..."):
            continue
        wanted = re.compile(re.escape(shape(line)).replace(re.escape("..."), ".*") + "$")
        found = [i for i, text in enumerate(printed) if wanted.match(text)]
        assert found, f"line {block.line}: `{line}` is not in\n{output}"
        printed = printed[found[0] + 1:]
