#!/usr/bin/env python3
"""Writes src/data/nfc_tables.cpp: what Unicode's canonical composition (UAX 15) needs.

    scripts/make_nfc_tables.py > src/data/nfc_tables.cpp

Taken from Python's unicodedata, so the Unicode version is that of the Python that
ran this. Normal forms of assigned characters never change between versions.
"""

import unicodedata

HANGUL = range(0xAC00, 0xD7A4)
CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]


def combining_ranges():
    ranges = []
    for code in CODES:
        value = unicodedata.combining(chr(code))
        if not value:
            continue
        if ranges and ranges[-1][1:] == [code - 1, value]:
            ranges[-1][1] = code
        else:
            ranges.append([code, code, value])
    return ranges


def decompositions():
    for code in CODES:
        text = unicodedata.decomposition(chr(code))
        if not text or text.startswith("<") or code in HANGUL:
            continue
        parts = [int(part, 16) for part in text.split()]
        composes = unicodedata.normalize("NFC", chr(code)) == chr(code)
        yield [code, parts[0], parts[1] if len(parts) == 2 else 0, int(composes)]


def table(name, kind, rows):
    rows = list(rows)
    print(f"const std::array<{kind}, {len(rows)}> {name} = {{{{")
    cells = ["{" + ", ".join(f"0x{value:X}" for value in row) + "}" for row in rows]
    line = "   "
    for cell in cells:
        if len(line) + len(cell) > 97:
            print(line)
            line = "   "
        line += f" {cell},"
    print(line)
    print("}};")


def main():
    print(f"// Written by scripts/make_nfc_tables.py, of Unicode {unicodedata.unidata_version}.")
    print('#include "data/nfc_tables.h"\n\nnamespace switchyard {\n\n// clang-format off')
    table("kCombiningRanges", "CombiningRange", combining_ranges())
    print()
    table("kDecompositions", "Decomposition", decompositions())
    print("// clang-format on\n\n}  // namespace switchyard")


if __name__ == "__main__":
    main()
