#!/usr/bin/env python3
"""Writes the six novels in R package janeaustenr to stdout, without R.

    scripts/extract_austen.py janeaustenr/data/Rdata.rdb > austen.txt

The file is R's lazy-load database: one object after another, each as a big-endian
u32 of its raw length and a zlib stream. Inside is R's XDR serialisation, version 3,
of a character vector with one element per line of the novel.
"""

import struct
import sys
import zlib

STRSXP = 16


def objects(database: bytes):
    at = 0
    while at < len(database):
        (length,) = struct.unpack_from(">I", database, at)
        stream = zlib.decompressobj()
        raw = stream.decompress(database[at + 4 :])
        if len(raw) != length:
            sys.exit(f"object at byte {at} has {len(raw)} bytes, not {length}: the file is torn")
        at = len(database) - len(stream.unused_data)
        yield raw


def lines_of(raw: bytes):
    """Header: "X\\n", three i32 of versions, the length and name of the encoding. Then
    flags and count of the vector; per element flags, byte length and bytes."""
    if raw[:2] != b"X\n" or struct.unpack_from(">i", raw, 2) != (3,):
        sys.exit("not an XDR serialisation of version 3")
    (encoding,) = struct.unpack_from(">i", raw, 14)
    at = 18 + encoding
    flags, count = struct.unpack_from(">ii", raw, at)
    if flags & 255 != STRSXP:
        sys.exit("not a character vector")
    at += 8
    for _ in range(count):
        _, length = struct.unpack_from(">ii", raw, at)
        at += 8
        yield raw[at : at + max(length, 0)]
        at += max(length, 0)


def main():
    with open(sys.argv[1], "rb") as file:
        database = file.read()
    novels = [b"\n".join(lines_of(raw)).strip() for raw in objects(database)]
    sys.stdout.buffer.write(b"\n\n\n".join(novels) + b"\n")


if __name__ == "__main__":
    main()
