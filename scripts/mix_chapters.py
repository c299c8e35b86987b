#!/usr/bin/env python3
"""Cuts books into chapters and deals them as JSON lines to stdout.

    scripts/mix_chapters.py BOOKS.txt... > mixed.jsonl

A chapter begins at a line that is only "Chapter 3", "CHAPTER IV" or, as in the
Bible, a book's name and a number ("1 Samuel 12"), after an empty line. Within a
file chapters come in the order of a hash of file and number; files are dealt in
proportion to their length, so any stretch of the output has the same share of each.
The order depends on nothing but the texts.
"""

import hashlib
import json
import pathlib
import re
import sys

HEADING = re.compile(
    r"(?<=\n\n)(?=(?:Chapter|CHAPTER) (?:[IVXLC]+|\d+)\n|(?:\d )?[A-Z][A-Za-z ]* \d+\n)"
)


def chapters_of(path: pathlib.Path):
    parts = HEADING.split("\n\n" + path.read_text(encoding="utf-8"))
    for number, part in enumerate(parts):
        text = part.strip()
        if text:
            yield {"text": text + "\n", "title": f"{path.stem} {number}"}


def by_hash(chapter):
    return hashlib.sha256(chapter["title"].encode()).digest()


def main():
    dealt = []
    for source, name in enumerate(sys.argv[1:]):
        chapters = sorted(chapters_of(pathlib.Path(name)), key=by_hash)
        total = sum(len(chapter["text"]) for chapter in chapters)
        passed = 0
        for chapter in chapters:
            passed += len(chapter["text"])
            dealt.append((passed / total, source, chapter))
    dealt.sort(key=lambda entry: entry[:2])
    for _, _, chapter in dealt:
        print(json.dumps(chapter, ensure_ascii=False))


if __name__ == "__main__":
    main()
