#!/usr/bin/env python3
"""Checks docs/methods.md against the tests: every row has at least one, and names them all.

    scripts/check_methods.py [--write]

A test proves a row of the table when its name begins with the row's number: `R3_...` in
C++, `test_R3_...` in Python. --write puts the names that it finds into the table.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/methods.md"
CPP = re.compile(r"TEST(?:_F|_P)?\(\s*(\w+),\s*([A-Z]\d+)_(\w+)\s*\)")
PYTHON = re.compile(r"^def (test_([A-Z]\d+)_\w+)\(", re.MULTILINE)
ROW = re.compile(r"^\| ([A-Z]\d+) \|(.*)\|(.*)\|$", re.MULTILINE)


def tests_by_row():
    """{"R3": ["BaseRouterTest.R3_...", "test_R3_..."]}, in the order of their files."""
    rows = {}
    for path in sorted((ROOT / "tests").rglob("*_test.cpp")):
        for suite, row, rest in CPP.findall(path.read_text()):
            rows.setdefault(row, []).append(f"{suite}.{row}_{rest}")
    for path in sorted((ROOT / "tests/python").rglob("test_*.py")):
        for name, row in PYTHON.findall(path.read_text()):
            rows.setdefault(row, []).append(name)
    return rows


def main():
    found = tests_by_row()
    page = PAGE.read_text()
    cell = {row: " " + ", ".join(f"`{name}`" for name in names) + " " for row, names in found.items()}
    if sys.argv[1:] == ["--write"]:
        page = ROW.sub(lambda m: f"| {m[1]} |{m[2]}|{cell.get(m[1], ' ')}|", page)
        PAGE.write_text(page)
    complaints = []
    listed = {row: tests for row, _, tests in ROW.findall(page)}
    for row, tests in listed.items():
        if row not in found:
            complaints.append(f"{row} has no test whose name begins with {row}_")
        elif tests != cell[row]:
            complaints.append(f"the tests of {row} have changed: run scripts/check_methods.py --write")
    complaints += [f"tests of {row} exist and docs/methods.md has no such row" for row in found if row not in listed]
    for complaint in complaints:
        print(f"docs/methods.md: {complaint}", file=sys.stderr)
    if complaints:
        return 1
    print(f"methods: {len(listed)} rows, {sum(map(len, found.values()))} tests")
    return 0


if __name__ == "__main__":
    sys.exit(main())
