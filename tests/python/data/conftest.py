"""Texts that tokenizers stumble over, and the program's tokens of them."""

import json
import os
import pathlib
import random
import subprocess
import sysconfig
import unicodedata

import numpy as np
import pytest

SOURCE = pathlib.Path(os.environ["SWITCHYARD_SOURCE_DIR"])

HAND_PICKED = [
    "It's  we'RE they've I'll 'tis don't\u2019s 'S 'Ll",
    " leading, trailing   ",
    "\n\n\r\n\t tabs\tand\r\rreturns \x0b\x0c end\n",
    "1 12 123 1234 12345 3.14159 0x1F \u0663\u0664 \u00bd \u2167 \u5341",
    "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3067\u3059\u3002\u30ab\u30bf\u30ab\u30ca\u3001\u6f22\u5b57 123\u5186",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01\u3000\u5168\u89d2\u7a7a\u683c \uc548\ub155\ud558\uc138\uc694",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0393\u03b5\u03b9\u03ac \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "\U0001f600\U0001f469\u200d\U0001f4bb\U0001f44d\U0001f3fd \u2764\ufe0f \U0001f1e9\U0001f1ea",
    "caf\u00e9 cafe\u0301 \u212b A\u030a \u1e69 s\u0323\u0307 s\u0307\u0323 \u0958 \u0915\u093c \u1112\u1161\u11ab \uf900",
    "\u00a0nbsp\u2003em\u2028line\u2029par\u0085next\u180emvs\u200bzwsp\ufeffbom\u205f\u3000",
    "snake_case camelCase SCREAMING_CASE a+=b; if(x!=y){return -1;} // \u2026",
    "    def f(self):\n        return  [i**2 for i in range(10)]\n\n\n\n",
    "<|endoftext|> in the text <|endoftext|><|endoftext|> a <|endoftext| > b",
    "\u017f \u212a 's 'S '\u017f AB\u01c5cd \u02b0\u02b1 x\u0301y",
    "a" * 5000 + " " * 3000 + "\u65e5" * 2000 + "!?" * 1000 + "\n" * 500,
    "\x00\x01\x1f\x7f control",
]


def random_texts(count=300):
    """Characters of every kind next to each other, in no order that a person writes.
    Unicode 14, PCRE2's: the peers know newer characters, and cut words at some of them."""
    draw = random.Random(20)
    blocks = [(0x20, 0x7F), (0x20, 0x7F), (0x80, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700),
              (0x900, 0xE80), (0x1100, 0x1200), (0x1E00, 0x2100), (0x2100, 0x2C00), (0x3000, 0x3400),
              (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0xF900, 0xFB50), (0x1F300, 0x1F700)]
    for _ in range(count):
        text = ""
        for _ in range(draw.randrange(1, 60)):
            first, last = draw.choice(blocks)
            character = chr(draw.randrange(first, last))
            if unicodedata.category(character) == "Cn":
                character = "?"
            text += draw.choice([character, " ", "\n", "'s", "12", "ab", "Z"])
        yield text


def python_sources(most=15):
    folder = pathlib.Path(sysconfig.get_path("stdlib"))
    for path in sorted(folder.glob("*.py"))[:most]:
        yield path.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def english(tmp_path_factory):
    """The default text: {"austen", "kjv"} whole, "default" chapter by chapter."""
    folder = tmp_path_factory.mktemp("text")
    done = subprocess.run([SOURCE / "scripts" / "fetch_text.sh", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def texts(english):
    with open(english / "default.jsonl", encoding="utf-8") as file:
        chapters = [json.loads(line)["text"] for line in file]
    return HAND_PICKED + list(random_texts()) + list(python_sources()) + chapters


def prepare(out, *arguments):
    command = [os.environ["SWITCHYARD_BIN"], "prepare", "--out", out, *arguments]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True)


def read_meta(folder):
    return json.loads((folder / "meta.json").read_text())


def tokens_of(folder, split="train"):
    dtype = {"uint16": np.uint16, "int32": np.int32}[read_meta(folder)["dtype"]]
    return np.fromfile(folder / f"{split}.bin", dtype=dtype).astype(np.int64)


def prepared_documents(texts, tokenizer, folder):
    """The program's ids of each text, without the end of text behind it."""
    with open(folder / "in.jsonl", "w", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps({"text": text}) + "\n")
    done = prepare(folder / "out", "--jsonl", folder / "in.jsonl", "--tokenizer", tokenizer,
                   "--val-fraction", 0)
    assert done.returncode == 0, done.stderr
    index = (folder / "out" / "train.idx").read_bytes()
    lengths = np.frombuffer(index, dtype="<i4", offset=34, count=len(texts))
    eos = read_meta(folder / "out")["eos"]
    documents = np.split(tokens_of(folder / "out"), np.cumsum(lengths)[:-1])
    assert all(document[-1] == eos for document in documents)
    return [document[:-1].tolist() for document in documents]


def assert_same_ids(texts, ours, theirs):
    assert len(ours) == len(theirs) == len(texts)
    for text, our_ids, their_ids in zip(texts, ours, theirs):
        if our_ids == their_ids:
            continue
        at = next((i for i, (a, b) in enumerate(zip(our_ids, their_ids)) if a != b), min(len(our_ids), len(their_ids)))
        pytest.fail(f"{text[:200]!r}: token {at}: {our_ids[at:at + 5]} for {their_ids[at:at + 5]}")
