#!/usr/bin/env python3
"""Prints the shape of the code in src/: shown, never judged.

Lengths of files and functions, and how much of headers and of sources is comment, next to
what well-kept C++ projects have. Functions are found by the house format: a body opens with
a brace behind a signature at the left edge (in headers also two spaces in, inside a class)
and closes with a brace at the same indent.
"""
import pathlib
import re
import statistics
import sys

root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "src")
paths = sorted(p for p in root.rglob("*") if p.suffix in {".h", ".cpp", ".cu", ".cuh"})
NOT_A_FUNCTION = re.compile(r"\s*(namespace|extern|struct|class|enum|union)\b")


def functions(path, lines):
    """(length, name) of every function, from its signature to its closing brace."""
    indents = ("", "  ") if path.suffix in {".h", ".cuh"} else ("",)
    signature = None
    for number, line in enumerate(lines):
        indent = line[: len(line) - len(line.lstrip())]
        if signature is not None and line.rstrip(";,") == signature[1] + "}":
            head = lines[signature[0]]
            name = re.findall(r"([\w:~]+)\s*\(", head) or [head.strip()]
            yield number - signature[0] + 1, name[0]
            signature = None
        elif signature is None and indent in indents and re.match(r"[\w~\[]", line.strip()):
            end = number
            while end < len(lines) - 1 and not lines[end].endswith(("{", ";", "}", ":")):
                end += 1
            opens = lines[end].endswith("{") and "(" in " ".join(lines[number : end + 1])
            if opens and not NOT_A_FUNCTION.match(line):
                signature = (number, indent)


def quantile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0


file_lengths, function_lengths = [], []
comment, code = {"headers": 0, "sources": 0}, {"headers": 0, "sources": 0}
for path in paths:
    lines = path.read_text().splitlines()
    file_lengths.append((len(lines), str(path)))
    function_lengths += [(length, f"{path} {name}") for length, name in functions(path, lines)]
    kind = "headers" if path.suffix in {".h", ".cuh"} else "sources"
    for line in filter(None, map(str.strip, lines)):
        (comment if line.startswith("//") else code)[kind] += 1

for title, lengths, anchors in (
    ("files", file_lengths, "median 80-120, p90 300-400"),
    ("functions", function_lengths, "median 5-10, p90 30"),
):
    counts = [length for length, _ in lengths]
    median = statistics.median(counts) if counts else 0
    print(f"{title}: {len(counts)}, median {median:.0f}, p90 {quantile(counts, 0.9)} lines ({anchors})")
    for length, name in sorted(lengths, reverse=True)[:5]:
        print(f"  {length:5} {name}")
for kind, anchor in (("headers", "1:1"), ("sources", "0.06-0.13")):
    print(f"comment to code in {kind}: {comment[kind] / max(code[kind], 1):.2f} ({anchor})")
