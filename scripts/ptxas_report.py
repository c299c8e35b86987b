#!/usr/bin/env python3
"""Registers and spills of our kernels, from what ptxas said when build/cuda was compiled:

    scripts/ptxas_report.py build/cuda [--page docs/gpu.md | --write docs/gpu.md]

Prints a Markdown table: one row for each kernel of namespace switchyard, one column for each GPU
that it was compiled for: registers of a thread, then bytes of static shared memory. Fails when one
spills or keeps an array in local memory, or when there is no kernel at all for one of
sm_80, sm_90 and sm_100. --page fails as well when the page has another table
between its markers <!-- ptxas --> and <!-- end -->; --write puts it there.
"""
import argparse
import pathlib
import re
import subprocess
import sys

MARKS = "<!-- ptxas -->\n", "<!-- end -->"
GPUS = ("sm_80", "sm_90", "sm_100")


def compiled(text):
    """The kernels of one object: {(mangled name, gpu): {"registers": 32, "shared": 0, "spills": 0, "stack": 0}}."""
    kernels, entry, function = {}, None, None
    for line in text.splitlines():
        if found := re.search(r"Compiling entry function '(\S+)' for '(\w+)'", line):
            entry = found.groups()
            kernels[entry] = {}
        elif found := re.search(r"Function properties for (\S+)", line):
            function = found[1]
        elif found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            if entry and function == entry[0]:
                kernels[entry] |= {"stack": int(found[1]), "spills": int(found[2]) + int(found[3])}
        elif entry and (found := re.search(r"Used (\d+) registers", line)):
            shared = re.search(r"(\d+) bytes smem", line)
            kernels[entry] |= {"registers": int(found[1]), "shared": int(shared[1]) if shared else 0}
    return kernels


def short(name):
    """`permute_rows<c10::BFloat16>` of switchyard::(anonymous namespace)::permute_rows<c10::BFloat16>(c10::BFloat16 const*, int)."""
    name = re.sub(r"\(anonymous namespace\)::|switchyard::(cuda::)?|^void ", "", name)
    depth = 0
    for at, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            return name[:at]
    return name


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("build", type=pathlib.Path)
    options.add_argument("--page", type=pathlib.Path)
    options.add_argument("--write", type=pathlib.Path)
    options = options.parse_args()

    kernels = {}
    for path in sorted(options.build.rglob("*.ptxas")):
        kernels |= compiled(path.read_text())
    mangled = sorted({name for name, _ in kernels})
    plain = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True)
    ours = {name: short(full) for name, full in zip(mangled, plain.stdout.split("\n"))
            if full.startswith(("switchyard::", "void switchyard::"))}
    gpus = sorted({gpu for _, gpu in kernels}, key=lambda gpu: int(gpu[3:]))

    bad = [f"no kernel of ours was compiled for {gpu}" for gpu in GPUS if not any((name, gpu) in kernels for name in ours)]
    rows = []
    for name, label in ours.items():
        cells = []
        for gpu in gpus:
            k = kernels.get((name, gpu), {})
            if k.get("spills") or k.get("stack"):
                bad.append(f"{label} on {gpu}: {k['spills']} bytes of spills, {k['stack']} bytes of stack")
            cells.append(f"{k['registers']}" + (f", {k['shared']} B" if k["shared"] else "") if k else "")
        rows.append(f"| `{label}` | " + " | ".join(cells) + " |\n")
    table = "| kernel | " + " | ".join(gpus) + " |\n|---|" + "---|" * len(gpus) + "\n" + "".join(sorted(rows))
    print(table)

    page = options.write or options.page
    if page:
        text = page.read_text()
        head, _, rest = text.partition(MARKS[0])
        old, _, tail = rest.partition(MARKS[1])
        if options.write:
            page.write_text(head + MARKS[0] + table + MARKS[1] + tail)
        elif old != table:
            bad.append(f"{page} has another table: scripts/ptxas_report.py {options.build} --write {page}")
    if bad:
        sys.exit("\n".join(bad))
    print(f"ptxas: {len(ours)} kernels of ours, none spills")


if __name__ == "__main__":
    main()
