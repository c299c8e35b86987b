#!/usr/bin/env python3
"""Fails when a test file is in no CMake target, or a test is switched off.

Every tests/**/*_test.cpp and test_*.py must be named in the CMakeLists.txt of its folder or
of one above it, outside comments, and no test may be disabled. Then lists, without failing,
the sources of src/ of some length that have no test of their own name.
"""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
tests = sorted([*(root / "tests").rglob("*_test.cpp"), *(root / "tests").rglob("test_*.py")])
substance_lines = 40

bad = []
for test in tests:
    folders = [f for f in test.parents if f.is_relative_to(root / "tests")]
    lists = [folder / "CMakeLists.txt" for folder in folders]
    named = "".join(re.sub(r"#.*", "", cmake.read_text()) for cmake in lists if cmake.is_file())
    if not re.search(rf"(?<![\w.]){re.escape(test.name)}(?![\w.])", named):
        bad.append(f"{test.relative_to(root)}: not in {lists[0].relative_to(root)}")
    if re.search(r"\bDISABLED_\w+|\bGTEST_SKIP\b|pytest\.mark\.skip\b", test.read_text()):
        bad.append(f"{test.relative_to(root)}: has a test that is disabled or skips itself")

gaps = []
for source in sorted((root / "src").rglob("*.cpp")):
    test = f"{source.stem}_test.cpp"
    lines = len(source.read_text().splitlines())
    if lines >= substance_lines and not any(t.name == test for t in tests):
        gaps.append(f"  {source.relative_to(root)} ({lines} lines)")

print("\n".join(bad) or f"tests registered: {len(tests)} files, all of them")
if gaps:
    print(f"sources without a test of their name ({len(gaps)}):", *gaps, sep="\n")
sys.exit(bool(bad))
