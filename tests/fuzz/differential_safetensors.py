#!/usr/bin/env python3
"""What our reader of safetensors accepts, the official package accepts too.

    differential_safetensors.py FUZZ_SAFETENSORS [--runs N] [--seed S]

The fuzz target makes N mutated files and keeps those that it takes; each is given to
safetensors.deserialize. Says too which of the package's own laxities, all refused by us, the
installed version has.
"""
import argparse
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import safetensors


def official_accepts(content):
    try:
        safetensors.deserialize(content)
    except Exception:  # SafetensorError, or what its bindings make of a strange header
        return False
    return True


def container(header, data=bytes(8)):
    return struct.pack("<Q", len(header)) + header.encode() + data


def laxities():
    def entry(dtype="F32", **more):
        return json.dumps({"dtype": dtype, "shape": [2], "data_offsets": [0, 8], **more})

    return {
        "one name, two dtypes": container('{"a":' + entry() + ',"a":' + entry("I32") + "}"),
        "space before the brace": container(' {"a":' + entry() + "}"),
        "a name that climbs": container('{"../../etc/passwd":' + entry() + "}"),
        "no name": container('{"":' + entry() + "}"),
        "an unknown field": container('{"a":' + entry(x=1) + "}"),
    }


def collected(path):
    content = path.read_bytes()
    at = 0
    while at < len(content):
        (size,) = struct.unpack_from("<Q", content, at)
        yield content[at + 8:at + 8 + size]
        at += 8 + size


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--runs", default=100000, type=int)
    parser.add_argument("--seed", default=1, type=int)
    arguments = parser.parse_args()
    for name, content in laxities().items():
        verdict = "accepts" if official_accepts(content) else "refuses"
        print(f"safetensors {safetensors.__version__} {verdict}, we refuse: {name}")
    with tempfile.TemporaryDirectory() as folder:
        accepted = pathlib.Path(folder) / "accepted"
        subprocess.run([arguments.target, "--runs", str(arguments.runs), "--seed", str(arguments.seed),
                        "--accepted", accepted], check=True)
        files = list(collected(accepted))
    too_lenient = [content for content in files if not official_accepts(content)]
    print(f"{arguments.runs} files, {len(files)} accepted by us, {len(too_lenient)} of them refused by the package")
    for content in too_lenient[:5]:
        print(repr(content[:400]))
    return 1 if too_lenient or not files else 0


if __name__ == "__main__":
    sys.exit(main())
