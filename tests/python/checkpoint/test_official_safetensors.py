"""Our safetensors files against the official package, both ways.

The tool's commands stand at the head of tests/checkpoint/checkpoint_tool.cpp.
"""
import json
import os
import random
import struct
import subprocess

import numpy as np
import pytest
from safetensors import deserialize, safe_open
from safetensors.numpy import save_file

TOOL = os.environ["SWITCHYARD_CHECKPOINT_TOOL"]


def run_tool(*arguments):
    done = subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def save_sample(folder, world):
    run_tool("save", folder, world)
    return folder / "step-00000001"


def raw_tensors(path):
    """{name: {dtype, shape, data}} as the official parser reads the file."""
    return dict(deserialize(path.read_bytes()))


def our_verdicts(folder, files):
    """For each of the byte strings: "yes", or "no" and why."""
    paths = []
    for number, content in enumerate(files):
        paths.append(folder / f"{number}.safetensors")
        paths[-1].write_bytes(content)
    (folder / "list").write_text("".join(f"{path}\n" for path in paths))
    return run_tool("check", folder / "list").rstrip("\n").split("\n")


def official_accepts(content):
    try:
        deserialize(content)
    except Exception:  # SafetensorError, or what its bindings make of a strange header
        return False
    return True


def container(header, data):
    return struct.pack("<Q", len(header)) + header + data


def test_a_checkpoint_of_one_rank_is_an_ordinary_file(tmp_path):
    step = save_sample(tmp_path, 1)
    manifest = json.loads((step / "manifest.json").read_text())
    tensors = raw_tensors(step / "rank-00000.safetensors")
    wanted = {t["name"]: t for t in manifest["tensors"] if np.prod(t["shape"]) > 0}
    assert set(tensors) == set(wanted)
    for name, tensor in wanted.items():
        assert tensors[name]["shape"] == tensor["shape"]
        assert tensors[name]["dtype"] == tensor["dtype"]
    with safe_open(step / "rank-00000.safetensors", framework="np") as file:
        assert file.metadata()["format"] == "pt"
        assert file.metadata()["save_id"] == manifest["save_id"]
        master = file.get_tensor("model.norm.weight.master")
    assert master.dtype == np.float32 and master.shape == (3,)


@pytest.mark.parametrize("world", [2, 3])
def test_slices_of_many_ranks_join_to_the_tensors_of_one(tmp_path, world):
    whole = raw_tensors(save_sample(tmp_path / "one", 1) / "rank-00000.safetensors")
    step = save_sample(tmp_path / "many", world)
    shards = {path.name: raw_tensors(path) for path in step.glob("rank-*.safetensors")}
    assert len(shards) == world
    manifest = json.loads((step / "manifest.json").read_text())
    for tensor in manifest["tensors"]:
        elements = int(np.prod(tensor["shape"]))
        joined = b""
        for piece in tensor["slices"]:
            begin, end = piece["begin"], piece["end"]
            name = tensor["name"]
            if end - begin != elements:
                name += f"@{begin}-{end}"
            stored = shards[piece["file"]][name]
            assert len(stored["data"]) == piece["bytes"]
            in_file = (step / piece["file"]).read_bytes()
            assert in_file[piece["offset"] : piece["offset"] + piece["bytes"]] == stored["data"]
            joined += stored["data"]
        assert joined == (whole[tensor["name"]]["data"] if elements else b"")


def test_the_official_package_reads_our_writer(tmp_path):
    path = tmp_path / "x.safetensors"
    run_tool("write", path)
    assert struct.unpack("<Q", path.read_bytes()[:8])[0] % 8 == 0
    with safe_open(path, framework="np") as file:
        assert file.metadata() == {"format": "pt"}
        floats = file.get_tensor('name with "quotes" and \u00e9')
        assert floats.tolist() == [[1.5, -2, 0], [3, 4, 5]]
        assert file.get_tensor("scalar").item() == -7
        assert file.get_tensor("empty").shape == (0, 3)


def test_we_read_the_official_writer(tmp_path):
    dtypes = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
    tensors = {f"t.{d}": np.arange(n, n + 3).astype(d) for n, d in enumerate(dtypes)}
    tensors |= {"scalar": np.ones((), np.float32), "empty": np.zeros((0, 2), np.float32)}
    save_file(tensors, tmp_path / "a", metadata={"format": "pt", "note": "\u00e9"})
    save_file({}, tmp_path / "b")
    files = [(tmp_path / name).read_bytes() for name in "ab"]
    assert our_verdicts(tmp_path, files) == ["yes", "yes"]


def seed_files():
    a = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    b = {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}
    c = {"dtype": "U8", "shape": [], "data_offsets": [32, 33]}
    headers = [
        {"a": a, "b": b, "c": c, "__metadata__": {"format": "pt"}},
        {"c": c, "b": b, "a": a},
        {"a": a, "b": b, "c": c, "empty": {"dtype": "I64", "shape": [0], "data_offsets": [24, 24]}},
    ]
    return [container(json.dumps(header).encode() + b"  ", bytes(33)) for header in headers]


TOKENS = [b"0", b"1", b"24", b"-", b".0", b"e1", b"18446744073709551615", b"9223372036854775808",
          b"F32", b"F64", b"F4", b"BOOL", b"[", b"]", b"{", b"}", b",", b":", b'"', b"null",
          b"true", b'"a":', b'"dtype":"F32",', b"\\u0000", b"\xff", b" ", b"\n", b"../"]


def mutated(rng, content):
    """The file with one to three edits; half of the time with a length that fits again."""
    header, data = bytearray(content[8:-33]), bytearray(content[-33:])
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(header) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            header[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            header[at : at + rng.randint(1, 8)] = b""
        elif kind == 2:
            header[at:at] = rng.choice(TOKENS)
        elif kind == 3:
            digits = [i for i, byte in enumerate(header) if 48 <= byte <= 57]
            if digits:
                header[rng.choice(digits)] = rng.randrange(48, 58)
        else:
            data = data[: rng.randrange(len(data) + 1)] + bytes(rng.randrange(3))
    length = len(header) if rng.random() < 0.8 else max(0, len(header) + rng.randint(-9, 9))
    return struct.pack("<Q", length) + bytes(header) + bytes(data)


def test_we_never_accept_what_the_official_parser_refuses(tmp_path):
    rng = random.Random(1)
    seeds = seed_files()
    files = seeds + [mutated(rng, rng.choice(seeds)) for _ in range(5000)]
    verdicts = our_verdicts(tmp_path, files)
    assert verdicts[: len(seeds)] == ["yes"] * len(seeds)
    ours = [verdict == "yes" for verdict in verdicts]
    official = [official_accepts(content) for content in files]
    too_lenient = [f for f, we, they in zip(files, ours, official) if we and not they]
    assert not too_lenient
    assert sum(ours) > len(seeds) and sum(official) < len(files) / 2  # the mutations do bite
