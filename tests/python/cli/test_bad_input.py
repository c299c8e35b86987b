"""Every wrong input: one message with the place and the way out, the right exit code, no file left behind."""

import re
import shutil

import pytest
from conftest import SOURCE, TEXT, switchyard

FIXTURES = sorted((SOURCE / "tests/config/fixtures/bad").glob("*.yaml"))


def files_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def assert_refused(done, code, message):
    assert done.returncode == code, done.stderr
    assert done.stderr.count("switchyard: ") == 1, done.stderr
    assert message in done.stderr, done.stderr


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: p.stem)
def test_wrong_configs(path, ranks, tmp_path):
    code, message = re.match(r"# expect: (\d+) (.*)", path.read_text()).groups()
    assert_refused(switchyard("train", path, ranks=ranks, cwd=tmp_path), int(code), message)
    assert files_in(tmp_path) == []


def test_there_are_thirty_wrong_configs():
    assert len(FIXTURES) >= 30


def broken(data, tmp_path, damage):
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    damage(folder)
    return folder


def cut(name):
    def damage(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-3])
    return damage


def large_token(folder):
    tokens = bytearray((folder / "train.bin").read_bytes())
    tokens[: len(tokens) // 2 * 2] = b"\xf0\x03" * (len(tokens) // 2)
    (folder / "train.bin").write_bytes(tokens)


DATA = {
    "no_folder": (shutil.rmtree, 3, "meta.json"),
    "no_meta": (lambda f: (f / "meta.json").unlink(), 3, "meta.json"),
    "no_index": (lambda f: (f / "train.idx").unlink(), 3, "train.idx"),
    "torn_tokens": (cut("train.bin"), 3, "train.bin"),
    "torn_index": (cut("train.idx"), 3, "train.idx"),
    "foreign_index": (lambda f: (f / "train.idx").write_bytes(b"NOTMEGATRON" * 20), 3, "train.idx"),
    "token_beyond_vocabulary": (large_token, 3, "train.bin"),
    "broken_meta": (lambda f: (f / "meta.json").write_text('{"tokenizer": '), 3, "meta.json"),
}


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("name", DATA)
def test_broken_data(name, ranks, data, tmp_path):
    damage, code, message = DATA[name]
    folder = broken(data, tmp_path, damage)
    before = files_in(tmp_path)
    done = switchyard("train", SOURCE / "configs/tiny.yaml", "--set", f"data.path={folder}", "--set",
                      f"run.dir={tmp_path / 'runs'}", "--set", "train.micro_batch_size=2", ranks=ranks, cwd=tmp_path)
    assert_refused(done, code, message)
    assert [f for f in files_in(tmp_path) if "metrics" not in f and not f.startswith("runs")] == before


def test_vocabulary_smaller_than_the_data(data, tmp_path):
    done = switchyard("train", SOURCE / "configs/tiny.yaml", "--set", f"data.path={data}", "--set",
                      "model.vocab_size=256", "--set", f"run.dir={tmp_path}", cwd=tmp_path)
    assert_refused(done, 2, "model.vocab_size")
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("words, code, message", [
    (["fly"], 2, "unknown command `fly`; one of train"),
    (["train"], 2, "CONFIG.yaml"),
    (["train", "missing.yaml"], 3, "missing.yaml"),
    (["prepare", "--text", "missing.txt", "--out", "out"], 3, "missing.txt"),
    (["prepare", "--text", str(TEXT), "--tokenizer", "magic", "--out", "out"], 2, "magic"),
    (["eval", "--checkpoint", "nowhere", "--data", "nowhere"], 3, "nowhere"),
    (["generate", "--checkpoint", "nowhere", "--prompt", "x"], 3, "nowhere"),
    (["generate", "--checkpoint", "nowhere", "--prompt", "x", "--top-p", "1.5"], 2, "--top-p"),
    (["parity", str(SOURCE / "configs/tiny.yaml"), "--layouts", "2by2,1x1"], 2, "2by2"),
    (["train", "x.yaml", "--no-such-flag"], 2, "--no-such-flag"),
])
def test_wrong_commands(words, code, message, tmp_path):
    assert_refused(switchyard(*words, cwd=tmp_path), code, message)
    assert files_in(tmp_path) == []
