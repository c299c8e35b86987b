"""What a run says while it trains and leaves behind: console, metrics.jsonl, TensorBoard, run.json, routing.json."""

import json
import os
import pty
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import BINARY, SOURCE, TINY, log_of, records, sets, train_tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

COPIES = 8 * 32 * 2  # of a step, in each of the two MoE layers: sequences, tokens, experts per token
SPREAD = {"model__init_std": 0.3}
LAYOUTS = {"one": (1, 1), "data": (2, 1), "expert": (2, 2), "both": (4, 2)}


@pytest.fixture(scope="module")
def resumed(data, tmp_path_factory):
    """A run of 15 steps, gone on with from its step 10 to 20."""
    folder = tmp_path_factory.mktemp("resumed")
    settings = {"ranks": 2, "parallel__expert": 2, "train__spike__window": 8}
    train_tiny(folder, data, "run", train__steps=15, **settings)
    train_tiny(folder, data, "run", resume=folder / "run/checkpoints/step-00000010", **settings)
    return folder / "run"


def events_of(run):
    """What TensorBoard shows of a run: all of it, not a sample."""
    return EventAccumulator(str(run / "tb"), {"scalars": 0, "histograms": 0, "tensors": 0}).Reload()


def test_tensorboard_shows_what_metrics_jsonl_says(resumed):
    steps, evaluations = records(resumed)
    assert [r["step"] for r in steps] == list(range(1, 21))
    expected = {}
    for record in log_of(resumed):
        prefix = f"eval/{record['eval']}/" if "eval" in record else ""
        for key, value in record.items():
            if isinstance(value, (int, float)) and key != "step":
                expected.setdefault(prefix + key, []).append((record["step"], float(np.float32(value))))
    events = events_of(resumed)
    assert set(events.Tags()["scalars"]) == set(expected)
    for tag, points in expected.items():
        assert [(e.step, e.value) for e in events.Scalars(tag)] == points, tag
    assert len(expected["loss"]) == 20 and len(expected["eval/val/bits_per_byte"]) == len(evaluations) == 2
    assert len(list((resumed / "tb").iterdir())) == 2


def test_tensorboard_shows_each_step_s_histograms(resumed):
    events = events_of(resumed)
    steps, _ = records(resumed)
    assert set(events.Tags()["histograms"]) == {f"moe.{l}.{what}" for l in (1, 2) for what in ("load", "router_logits")}
    for layer in (1, 2):
        loads, logits = events.Histograms(f"moe.{layer}.load"), events.Histograms(f"moe.{layer}.router_logits")
        assert [e.step for e in loads] == [e.step for e in logits] == list(range(1, 21))
        for event, record in zip(loads, steps, strict=True):
            load = event.histogram_value
            assert list(load.bucket_limit) == [1, 2, 3, 4] and load.num == COPIES
            assert list(load.bucket) == [share * COPIES for share in record[f"moe.{layer}.load"]]
        for event in logits:
            histogram = event.histogram_value
            assert histogram.num == sum(histogram.bucket) == 8 * 32 * 4 and 1 <= len(histogram.bucket) <= 64
            assert histogram.min < histogram.bucket_limit[0] and histogram.bucket_limit[-1] == histogram.max


def test_tensorboard_can_be_turned_off(train, tmp_path):
    train("run", train__steps=2, run__tensorboard="false")
    assert not (tmp_path / "run/tb").exists() and len(records(tmp_path / "run")[0]) == 2


def test_scores_are_measured_against_the_steps_before(resumed):
    """Over the resume, too: the window is in the checkpoint."""
    steps, _ = records(resumed)
    for key in ("loss", "grad_norm"):
        values, scores = [r[key] for r in steps], [r[f"{key}_z"] for r in steps]
        assert scores[:4] == [None] * 4
        for i in range(4, 20):
            window = values[max(0, i - 8):i]
            assert scores[i] == pytest.approx((values[i] - np.mean(window)) / np.std(window, ddof=1), rel=1e-9)


def test_run_json_tells_each_start(resumed):
    run = json.loads((resumed / "run.json").read_text())
    assert [(s["step"], s["world"], len(s["hosts"])) for s in run["started"]] == [(0, 2, 2), (10, 2, 2)]
    assert [s["resumed_from"] for s in run["started"]] == ["", str(resumed / "checkpoints/step-00000010")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", s["time"]) for s in run["started"])
    assert (run["name"], run["steps"], run["ranks"], run["expert"], run["zero"]) == ("run", 20, 2, 2, 1)
    assert (run["moe_layers"], run["num_experts"], run["top_k"], run["precision"]) == ([1, 2], 4, 2, "fp32")
    assert run["parameters_total"] > run["parameters_active"] > 0 and run["flops_per_token"] > 0
    parts = run["planned_bytes_per_rank"]
    assert parts["total"] == sum(n for part, n in parts.items() if part != "total")
    (source,) = run["data"]
    assert source["tokens"] > 10000 and source["name"]


@pytest.fixture(scope="module")
def routing(data, tmp_path_factory):
    """routing.json and the records of two steps, on each layout."""
    folder = tmp_path_factory.mktemp("routing")
    found = {}
    for name, (ranks, expert) in LAYOUTS.items():
        train_tiny(folder, data, name, ranks=ranks, parallel__expert=expert, train__micro_batch_size=2, train__steps=2,
                   **SPREAD)
        found[name] = (json.loads((folder / name / "routing.json").read_text()), records(folder / name)[0])
    return found


def test_top_tokens_do_not_know_the_layout(routing):
    one = routing["one"][0]["top_tokens"]
    assert one["split"] == "val" and one["tokens"] == 2 * 8 * 32 and [l["layer"] for l in one["layers"]] == [1, 2]
    for layer in one["layers"]:
        assert sum(e["copies"] for e in layer["experts"]) == 2 * one["tokens"]
        for expert in layer["experts"]:
            copies = [t["copies"] for t in expert["top"]]
            assert copies == sorted(copies, reverse=True) and len(copies) <= 10
            assert all(0 < t["share"] <= 1 and t["text"] == chr(t["id"]) for t in expert["top"])
    for name, (found, _) in routing.items():
        assert found["top_tokens"]["tokens"] == one["tokens"]
        for ours, theirs in zip(found["top_tokens"]["layers"], one["layers"], strict=True):
            for a, b in zip(ours["experts"], theirs["experts"], strict=True):
                assert abs(a["copies"] - b["copies"]) <= 2, name  # that rounding turned
                shared = {t["id"]: t["copies"] for t in b["top"]}
                for token in a["top"][:5]:
                    assert abs(token["copies"] - shared[token["id"]]) <= 2, name


def test_histograms_of_logits_do_not_know_the_layout(routing):
    one = routing["one"][0]["router_logits"]["layers"]
    for name, (found, _) in routing.items():
        for ours, theirs in zip(found["router_logits"]["layers"], one, strict=True):
            assert sum(ours["counts"]) == 8 * 32 * 4 and len(ours["edges"]) == len(ours["counts"]) + 1
            assert ours["layer"] == theirs["layer"] and ours["edges"] == theirs["edges"], name
            assert sum(abs(a - b) for a, b in zip(ours["counts"], theirs["counts"])) <= 8, name


def test_the_exchange_matrix_holds_every_copy(routing):
    for name, (ranks, expert) in LAYOUTS.items():
        found, steps = routing[name]
        rows = np.array(found["exchange"]["rows"])
        assert found["exchange"]["ranks_per_cell"] == 1 and rows.shape == (ranks, ranks) and found["ranks"] == ranks
        assert rows.sum(axis=1).tolist() == [2 * COPIES // ranks] * ranks  # each rank sends those of its tokens
        group = np.arange(ranks) // expert
        assert (rows[group[:, None] != group[None, :]] == 0).all()
        # Rows of 32 floats go there and back, forward and backward; and counts of experts, once.
        away = rows.sum() - rows.trace()
        micro_batches = 8 // ranks // 2
        counts = ranks * 2 * micro_batches * (expert - 1) * (4 // expert) * 8
        assert steps[-1]["exchange_bytes"] == 4 * 32 * 4 * away + counts, name
        per_expert = sum(np.array(steps[-1][f"moe.{layer}.load"]) for layer in (1, 2)) * COPIES
        to_ranks = rows.sum(axis=0).reshape(-1, expert).sum(axis=0)
        assert to_ranks.tolist() == per_expert.reshape(expert, -1).sum(axis=1).round().tolist()


def test_a_dense_model_has_no_routing(train, tmp_path):
    train("run", moe__layers="none", train__steps=2)
    assert not (tmp_path / "run/routing.json").exists()
    assert "moe_layers" in json.loads((tmp_path / "run/run.json").read_text())


def test_never_starts_the_files_anew(train, tmp_path):
    for _ in range(2):
        train("run", train__steps=2, resume="never")
    run = tmp_path / "run"
    for name in ("run.json", "routing.json", "tb"):
        assert (run / name).exists() and (run / f"{name}.old-1").exists()
    assert len(json.loads((run / "run.json").read_text())["started"]) == 1
    assert len(events_of(run).Scalars("loss")) == 2


def test_a_log_has_plain_lines(train, data):
    done = train("run", train__steps=2)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", done.stdout + done.stderr)
    tokens = 2 * 8 * 32
    assert re.search(rf"^data     {tokens} tokens in 2 steps, 0\.\d\d per active parameter\n"
                     r"         tiny: [\d,]+ tokens, validation [\d,]+; 0\.\d\d epochs$", done.stderr, re.M)
    assert re.search(r"^run      \S+/run on \S+ \(1 rank\)$", done.stderr, re.M), done.stderr


def command_of(data, tmp_path, *flags):
    settings = {"run__dir": tmp_path, "run__name": "run", "data__path": data, "train__threads": 1, "train__steps": 4}
    return [BINARY, "train", TINY, "--resume", "never", *flags, *sets(settings)]


def test_colours_follow_the_conventions(data, tmp_path):
    def coloured(**environment):
        done = subprocess.run(command_of(data, tmp_path), capture_output=True, check=True, timeout=240,
                              env={**os.environ, **environment})
        assert b"\r" not in done.stdout + done.stderr
        return b"\x1b[1m" in done.stdout

    assert not coloured() and coloured(CLICOLOR_FORCE="1") and not coloured(CLICOLOR_FORCE="0")
    assert not coloured(CLICOLOR_FORCE="1", NO_COLOR="1")


def on_terminal(command, **environment):
    """What a terminal of 80 columns gets, byte for byte."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs,
                               env={**os.environ, "TERM": "xterm", "COLUMNS": "80", **environment})
    os.close(theirs)
    output = b""
    while True:
        try:
            output += os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
    os.close(ours)
    assert process.wait(timeout=240) == 0, output
    return output.decode()


def test_on_a_terminal_a_bar_stays_below_the_lines(data, tmp_path):
    output = on_terminal(command_of(data, tmp_path))
    bars = re.findall(r"\r\x1b\[K(\[[=> ]+\] +\d+% \| step \d+/4 \| \d+ ms \| eta \w+)", output)
    assert bars and all(len(bar) < 80 for bar in bars), output
    left = [line.rpartition("\r\x1b[K")[2] for line in output.replace("\r\n", "\n").split("\n")]
    plain = [re.sub(r"\x1b\[\d*m", "", line) for line in left]
    assert not any("[=" in line or "[>" in line for line in plain) and plain[-1] == ""
    assert [line.split(" | ")[0] for line in plain if line.startswith("step ")] == [f"step {i}/4" for i in range(1, 5)]
    off = on_terminal(command_of(data, tmp_path, "--progress", "off"))
    assert "\x1b[K" not in off and "\x1b[1m" in off
    assert "\x1b" not in on_terminal(command_of(data, tmp_path), TERM="dumb")


def test_warns_of_dropped_tokens_and_dead_experts_once(train):
    done = train("run", train__steps=14, moe__capacity="{factor: 0.5, min: 1}", **SPREAD)
    (line,) = [line for line in done.stderr.splitlines() if "capacity drops" in line]
    assert re.fullmatch(r"warning: capacity drops \d\d% of the routed tokens; raise moe.capacity.factor .*", line)


def offline_history(path):
    """What an offline run of W&B keeps for each step. Its file is LevelDB's log: behind a header of 7 bytes, blocks of
    32 KiB of pieces of records."""
    from wandb.proto import wandb_internal_pb2

    content, record, history, at = path.read_bytes(), b"", {}, 7
    assert content[:4] == b":W&B"
    while at < len(content):
        left = 32768 - at % 32768  # in this block
        if left < 7:
            at += left
            continue
        size, kind = int.from_bytes(content[at + 4:at + 6], "little"), content[at + 6]
        record += content[at + 7:at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last piece
            items = wandb_internal_pb2.Record.FromString(record).history.item
            values = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
            if values:
                history.setdefault(values["_step"], {}).update(values)
            record = b""
    return history


def test_a_script_mirrors_to_weights_and_biases(resumed, tmp_path):
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}
    command = [sys.executable, SOURCE / "scripts/mirror_to_wandb.py", resumed]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    history = offline_history(path)
    steps, evaluations = records(resumed)
    for expected in steps:
        found = history[expected["step"]]
        assert all(found[key] == value for key, value in expected.items() if isinstance(value, (int, float)))
        assert found["moe.1.load/values"] == expected["moe.1.load"] and found["moe.1.load/bins"] == [0, 1, 2, 3, 4]
    for expected in evaluations:
        assert history[expected["step"]]["eval/val/bits_per_byte"] == expected["bits_per_byte"]


STAND_IN = """
import contextlib, json
class Run:
    def log(self, values, step): print(json.dumps([step, values]), flush=True)
@contextlib.contextmanager
def init(**_): yield Run()
"""


def test_the_mirror_follows_a_run(tmp_path):
    """Line by line, with a stand-in for W&B that prints what it is told."""
    (tmp_path / "wandb.py").write_text(STAND_IN)
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
    command = [sys.executable, SOURCE / "scripts/mirror_to_wandb.py", tmp_path, "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(tmp_path)}) as mirror:
        try:
            told = [json.loads(mirror.stdout.readline())]
            with metrics.open("a") as file:
                file.write('ss": 2.25}\n{"step": 2, "eval": "val", "loss": null, "tokens": 9}\n')
            told += [json.loads(mirror.stdout.readline()) for _ in range(2)]
            metrics.write_text('{"step": 1, "loss": 2.5}\n')  # resumed from step 1
            told.append(json.loads(mirror.stdout.readline()))
        finally:
            mirror.send_signal(signal.SIGINT)
    assert mirror.returncode == 0
    first = [1, {"step": 1, "loss": 2.5}]
    assert told == [first, [2, {"step": 2, "loss": 2.25}], [2, {"eval/val/step": 2, "eval/val/tokens": 9}], first]
