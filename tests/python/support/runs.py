"""Runs the commands as a user types them, alone or under mpirun, on a small real text, and looks at what they leave."""

import json
import os
import pathlib
import subprocess
import time

SOURCE = pathlib.Path(os.environ["SWITCHYARD_SOURCE_DIR"])
TINY = SOURCE / "configs/tiny.yaml"
BINARY = os.environ["SWITCHYARD_BIN"]
TEXT = pathlib.Path(__file__).with_name("austen.txt")  # Pride and Prejudice, 1813: public domain
CLOCKS = {"step_ms", "tokens_per_second", "mfu", "comm_ms", "data_ms", "forward_ms", "backward_ms", "optimizer_ms",
          "checkpoint_ms", "slowest_rank", "slowest_rank_ms", "typical_rank_ms", "peak_rss_bytes"}
# Everything that a step draws or carries along; routing is spread over the experts.
HARD = {"model__dropout": 0.1, "model__init_std": 0.3, "moe__router__jitter_eps": 0.1, "moe__expert_dropout": 0.1,
        "moe__balance": "{type: topk, scope: global_lagged, adaptive: {rate: 0.5}}", "moe__router__selection_bias": "true",
        "moe__capacity": "{factor: 1.25, min: 1}"}


def switchyard(*arguments, ranks=1, cwd=None):
    """The finished process. More than one rank are started with mpirun."""
    command = [BINARY, *map(str, arguments)]
    if ranks > 1:
        command = ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=240, cwd=cwd,
                          env=environment)


def sets(settings):
    """{"train__steps": 3} as the flags --set train.steps=3."""
    return [word for key, value in settings.items() for word in ("--set", f"{key.replace('__', '.')}={value}")]


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def log_of(run):
    """metrics.jsonl of a run folder, object by object."""
    return [json.loads(line) for line in (pathlib.Path(run) / "metrics.jsonl").read_text().splitlines()]


def records(run):
    """metrics.jsonl of a run folder: the steps, and the evaluations."""
    return [r for r in log_of(run) if "eval" not in r], [r for r in log_of(run) if "eval" in r]


def flip_byte_of(step_dir, tensor):
    """Damages a tensor of a checkpoint."""
    manifest = json.loads((step_dir / "manifest.json").read_text())
    piece = next(t for t in manifest["tensors"] if t["name"] == tensor)["slices"][0]
    content = bytearray((step_dir / piece["file"]).read_bytes())
    content[piece["offset"]] ^= 1
    (step_dir / piece["file"]).write_bytes(content)


def wait_until(condition, seconds=100):
    """Polls; a guard against a test that waits for ever, not a claim about speed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def prepare(text, folder, *flags):
    done = switchyard("prepare", "--text", text, "--out", folder, *flags)
    assert done.returncode == 0, done.stderr
    return folder


def train_tiny(folder, data, name, ranks=1, resume="auto", check=True, **settings):
    """Trains configs/tiny.yaml into folder/name."""
    settings = {"run__dir": folder, "run__name": name, "data__path": data, "train__threads": 1, **settings}
    done = switchyard("train", TINY, "--resume", resume, *sets(settings), ranks=ranks)
    assert not check or done.returncode == 0, done.stderr
    return done


def numbers(run):
    """Each line of metrics.jsonl as text, without the times. Numbers in it read back bit-equal."""
    return [json.dumps({k: v for k, v in r.items() if k not in CLOCKS}) for r in log_of(run)]


def tensors(step_dir):
    """Every tensor of a checkpoint, put together from the slices in its files, as bytes."""
    manifest = json.loads((step_dir / "manifest.json").read_text())
    files = {name: (step_dir / name).read_bytes() for name in manifest["shards"]}
    return {t["name"]: b"".join(files[s["file"]][s["offset"]:s["offset"] + s["bytes"]] for s in t["slices"])
            for t in manifest["tensors"]}
