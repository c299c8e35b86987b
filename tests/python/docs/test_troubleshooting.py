"""Every message of docs/troubleshooting.md is made to appear, and its exit code is the page's.

The page's blocks of `text` are messages as printed; words in capitals stand for what differs. Each has a case here of the
same first words, and each case is on the page.
"""

import base64
import json
import os
import re
import shutil
import signal
import subprocess

import pytest
from conftest import BINARY, SOURCE, TEXT, TINY, blocks, flip_byte_of, prepare, sets, switchyard

FAULTY = os.environ["SWITCHYARD_FAULTY_BIN"]
PAGE = blocks("troubleshooting.md")
MESSAGES = [block.text for block in PAGE if block.language == "text"]
QUICK = {"train__steps": 2, "train__threads": 1, "train__micro_batch_size": 1, "train__eval_interval": 0,
         "checkpoint__interval": 0}


class Place:
    """A folder of data, and the commands that a reader might get wrong."""

    def __init__(self, folder, data, run):
        self.folder, self.data, self.finished = folder, data, run

    def run(self, *words, ranks=1):
        return switchyard(*words, ranks=ranks, cwd=self.folder)

    def train(self, *flags, ranks=1, **settings):
        settings = {"run__dir": self.folder / "runs", "data__path": self.data, **QUICK, **settings}
        return self.run("train", TINY, *flags, *sets(settings), ranks=ranks)

    def trained(self):
        """The step folder of a run of two steps."""
        shutil.copytree(self.finished, self.folder / "runs/tiny")
        return self.folder / "runs/tiny/checkpoints/step-00000002"

    def faulty(self, faults="", file_fault="", ranks=2, **settings):
        settings = {"run__dir": self.folder / "runs", "data__path": self.data, **QUICK, **settings}
        command = [FAULTY, "train", TINY, *sets(settings)]
        if ranks > 1:
            command = ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none", *command]
        return subprocess.run(command, capture_output=True, text=True, timeout=200,
                              env={**os.environ, "OMP_NUM_THREADS": "1",
                                   **({"SWITCHYARD_FAILPOINTS": faults} if faults else {}),
                                   **({"SWITCHYARD_FILE_FAULT": file_fault} if file_fault else {})})

    def write(self, name, text):
        (self.folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return self.folder / name

    def copy_of_data(self):
        return shutil.copytree(self.data, self.folder / "copy")


def config(text):
    return lambda p: p.run("train", p.write("run.yaml", text))


def setting(**settings):
    return lambda p: p.train(**settings)


def words(*all_words, ranks=1):
    return lambda p: p.run(*all_words, ranks=ranks)


def byte_vocabulary(p):
    """A tiktoken file of the 256 bytes and an end of text."""
    lines = [f"{base64.b64encode(bytes([i])).decode()} {i}\n" for i in range(256)]
    return p.write("bytes.tiktoken", "".join(lines))


def not_utf8(p):
    p.write("old.txt", "It is\na caf\xe9\n".encode("latin1"))
    return p.run("prepare", "--text", "old.txt", "--tokenizer", f"tiktoken:{byte_vocabulary(p)}", "--out", "out")


def no_validation(p):
    data = prepare(TEXT, p.folder / "whole", "--val-fraction", "0")
    return p.run("eval", "--checkpoint", p.trained(), "--data", data)


def large_token(p):
    folder = p.copy_of_data()
    tokens = (folder / "train.bin").read_bytes()
    (folder / "train.bin").write_bytes(b"\xf0\x03" * (len(tokens) // 2))
    return p.train(data__path=folder)


def torn(p):
    folder = p.copy_of_data()
    (folder / "train.bin").write_bytes((folder / "train.bin").read_bytes()[:-3])
    return p.train(data__path=folder)


def other_tokenizer(p):
    step = p.trained()
    p.write("words.tiktoken", byte_vocabulary(p).read_bytes() + base64.b64encode(b"the") + b" 256\n")
    data = prepare(TEXT, p.folder / "other", "--tokenizer", f"tiktoken:{p.folder}/words.tiktoken")
    return p.run("eval", "--checkpoint", step, "--data", data)


def damaged(p):
    step = p.trained()
    flip_byte_of(step, "model.embed_tokens.weight")
    return step


def of_another_version(p):
    folder = p.folder / "step-00000001"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"format": "something else"}))
    return p.run("inspect", folder)


def twice_at_once(p):
    """A second start of a run that is still going."""
    settings = {"run__dir": p.folder / "runs", "data__path": p.data, **QUICK, "train__steps": 100000}
    first = subprocess.Popen([BINARY, "train", TINY, *sets(settings)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        while not first.stdout.readline().startswith(b"step"):
            assert first.poll() is None
        return p.train()
    finally:
        first.kill()
        first.communicate()


def asked_to_stop(p):
    settings = {"run__dir": p.folder / "runs", "data__path": p.data, **QUICK, "train__steps": 100000,
                "checkpoint__interval": 100000}
    job = subprocess.Popen([BINARY, "train", TINY, *sets(settings)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not job.stdout.readline().startswith("step"):
        assert job.poll() is None
    job.send_signal(signal.SIGTERM)
    text, _ = job.communicate(timeout=200)
    return subprocess.CompletedProcess([], job.returncode, "", text)


def hub_folder(p, name, content):
    folder = p.folder / "hub"
    folder.mkdir()
    config = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
              "intermediate_size": 16, "vocab_size": 32, "rms_norm_eps": 1e-5, "architectures": ["LlamaForCausalLM"],
              "tie_word_embeddings": False, "hidden_act": "silu", "max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / name).write_bytes(content)
    return p.run("import", "--from", folder, "--out", "out")


def no_slots(_):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMPI_MCA")}
    return subprocess.run(["mpirun", "-n", "4096", "true"], capture_output=True, text=True, env=environment)


# The first words of each message, how to get it, and the exit code.
CASES = {
    # the command line
    "unknown command `WORD`": (words("trian"), 2),
    "The following argument was not expected": (words("train", TINY, "--stpes=3"), 2),
    "--data is required": (words("eval", "--checkpoint", "runs/first"), 2),
    "train: CONFIG.yaml is required": (words("train"), 2),
    # the config
    "FILE:LINE: unknown key": (config("model: {hiden_size: 3}"), 2),
    "FILE:LINE: `KEY` must be at least": (config("moe: {top_k: 0}"), 2),
    "FILE:LINE: `KEY` must be an integer": (config("train: {steps: many}"), 2),
    "FILE:LINE: `KEY` must be one of": (config("model: {ffn: swiglo}"), 2),
    "FILE:LINE: duplicate key": (config("train:\n  steps: 1\n  steps: 2\n"), 2),
    "FILE:LINE: not valid YAML": (config("train: {steps: 1\nmodel: 3\n"), 2),
    "--set WORD": (words("train", TINY, "--set", "train.steps"), 2),
    "FILE:LINE: `extends`: cannot open": (config("extends: nowhere.yaml"), 3),
    "FILE:LINE: `train.global_batch_size`": (config("train: {global_batch_size: 7, micro_batch_size: 4}"), 2),
    "FILE:LINE: `moe.top_k` N is more than": (config("moe: {top_k: 9, num_experts: 4}"), 2),
    "FILE:LINE: `moe.num_experts` N cannot": (config("moe: {num_experts: 8}\nparallel: {expert: 3}"), 2),
    "`parallel.expert` N needs": (setting(parallel__expert=2), 2),
    "`moe.router.type` WORD decides": (setting(moe__router__type="expert_choice"), 2),
    "train.device: cuda": (setting(train__device="cuda"), 2),
    # data
    "prepare: nothing to read": (words("prepare", "--out", "out"), 2),
    "FILE: is empty": (lambda p: p.run("prepare", "--text", p.write("empty.txt", ""), "--out", "out"), 3),
    "FILE:LINE: byte N is not valid UTF-8": (not_utf8, 3),
    "FILE:LINE: not valid JSON": (lambda p: p.run("prepare", "--jsonl", TEXT, "--out", "out"), 3),
    "FILE:LINE: \"KEY\" is missing": (lambda p: p.run("prepare", "--jsonl", p.write("a.jsonl", '{"text": "a"}'), "--field", "body",
                                            "--out", "out"), 3),
    "tokenizer \"WORD\"": (words("prepare", "--text", TEXT, "--tokenizer", "magic", "--out", "out"), 2),
    "tokenizer sp:FILE": (words("prepare", "--text", TEXT, "--tokenizer", "sp:x.model", "--out", "out"), 2),
    "FOLDER/meta.json: not there": (setting(data__path="nowhere"), 3),
    "FOLDER/train: N tokens are too few": (setting(data__sequence_length=60000), 3),
    "FOLDER/val.idx: not there": (no_validation, 3),
    "FOLDER/train.bin: has N bytes": (torn, 3),
    "FOLDER/train.bin: token N is": (large_token, 3),
    "model.vocab_size: N is smaller": (setting(model__vocab_size=256), 2),
    "--data: FOLDER was prepared with another": (other_tokenizer, 2),
    # checkpoints
    "no checkpoint in FOLDER": (words("eval", "--checkpoint", "nowhere", "--data", "nowhere"), 3),
    "no whole checkpoint could be read": (lambda p: (damaged(p), p.train(train__steps=3))[1], 3),
    "FILE: tensor \"NAME\"": (lambda p: p.run("eval", "--checkpoint", damaged(p), "--data", p.data), 3),
    "FILE: torn, or no manifest": (of_another_version, 3),
    "--resume strict: FOLDER has no checkpoint": (lambda p: p.train("--resume", "strict"), 2),
    "FOLDER: this checkpoint is of another model": (lambda p: (p.trained(), p.train(model__hidden_size=64))[1], 2),
    "FOLDER: cannot go on from this checkpoint": (lambda p: (p.trained(), p.train(run__seed=1, train__steps=3))[1], 2),
    "FOLDER/lock is held by": (twice_at_once, 3),
    "--out: FOLDER is there already": (lambda p: p.run("upcycle", "--from", "nowhere", "--out", p.data, "--num-experts", "4", "--top-k", "2"), 2),
    "FOLDER/NAME: a pickle file": (lambda p: hub_folder(p, "pytorch_model.bin", b"PK\3\4"), 3),
    "FOLDER: neither model.safetensors": (lambda p: hub_folder(p, "README.md", b"x"), 3),
    # disks
    "the checkpoint was not saved": (lambda p: p.faulty(file_fault="rank=1:path=step-00000002:enospc@1+",
                                                        checkpoint__interval=2), 3),
    "cannot create FOLDER: Not": (lambda p: p.train(run__dir=p.write("file", "x")), 3),
    # MPI, hangs and lost ranks
    "There are not enough slots": (no_slots, 1),
    "prepare: runs alone": (lambda p: p.run("prepare", "--text", TEXT, "--out", "out", ranks=2), 2),
    "parity: runs alone": (words("parity", TINY, ranks=2), 2),
    "no progress for N s": (lambda p: p.faulty("forward#2@1=sleep(600000)", watchdog__timeout_seconds=3), 75),
    "rank N (host NAME, pid N)": (lambda p: p.faulty("forward#2@1=kill"), None),
    "warning: asked to stop": (asked_to_stop, 85),
    # numbers and memory
    "warning: step N skipped": (lambda p: p.faulty("gradient.nan#2@0=wrong", ranks=1), 0),
    "N steps in a row were not finite": (lambda p: p.faulty("gradient.nan#*@0=wrong", ranks=1, train__steps=9,
                                                            train__max_skipped_steps=3), 86),
    "after step N ranks": (lambda p: p.faulty("weight.flip#1@1=wrong", train__check_replicas_interval=1, zero__stage=0), 4),
    "out of memory": (lambda p: p.faulty("forward#2@0=bad_alloc", ranks=1), 70),
}


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return prepare(TEXT, tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="session")
def finished(data, tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("finished"), data, None)
    done = place.train(checkpoint__interval=2)
    assert done.returncode == 0, done.stderr
    return place.folder / "runs/tiny"


@pytest.fixture
def place(tmp_path, data, finished):
    return Place(tmp_path, data, finished)


def pattern(message):
    """The message as printed: any space or line end for a space, anything for a word in capitals."""
    words = re.split(r"\s+", message.strip())
    return re.compile(r"\s+".join(re.sub(r"\b(FILE|FOLDER|LINE|KEY|WORD|NAME|PHASE|N)\b", r".+?", re.escape(w)) for w in words))


def message_of(case):
    found = [m for m in MESSAGES if m.startswith(case)]
    assert len(found) == 1, f"{case}: on the page {len(found)} times"
    return found[0]


@pytest.mark.parametrize("case", CASES)
def test_the_message_appears(case, place):
    make, code = CASES[case]
    done = make(place)
    assert pattern(message_of(case)).search(done.stderr), f"{message_of(case)}\nis not in\n{done.stderr}"
    assert code is None or done.returncode == code


def test_every_message_of_the_page_has_a_case():
    assert len(MESSAGES) >= 30
    for message in MESSAGES:
        assert any(message.startswith(case) for case in CASES), message
    assert SOURCE.is_dir()
