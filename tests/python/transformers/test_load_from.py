"""A run that starts from a Hugging Face folder: what it takes from there, what it refuses, what it hands on."""

import json

import numpy as np
import pytest
import torch
import transformers
from runs import TEXT, prepare, records, sets, switchyard
from tiny_models import save_tiny

SEQUENCE = 32
CONFIG = f"""
data: {{sequence_length: {SEQUENCE}}}
train: {{steps: 2, global_batch_size: 4, micro_batch_size: 2, precision: fp32, eval_interval: 2, eval_batches: 1,
        log_interval: 1, threads: 1}}
optim: {{lr: 1.0e-3, schedule: {{warmup_steps: 0}}}}
checkpoint: {{interval: 2}}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare(TEXT, tmp_path_factory.mktemp("data") / "bytes")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "hf"
    save_tiny("mixtral", folder, vocab_size=320)
    return folder


def train(folder, data, source, ranks=1, text=CONFIG, **settings):
    (folder / "run.yaml").write_text(text)
    settings = {"run__dir": folder, "run__name": "run", "data__path": data, "checkpoint__load_from": source, **settings}
    return switchyard("train", folder / "run.yaml", *sets(settings), ranks=ranks)


def evaluate(checkpoint, data, *flags):
    done = switchyard("eval", "--checkpoint", checkpoint, "--data", data, "--sequence-length", SEQUENCE, "--json",
                      *flags)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_eval_of_a_folder_is_transformers_loss(source, data):
    ours = evaluate(source, data, "--batches", 2)
    tokens = np.fromfile(data / "val.bin", dtype=np.uint16).astype(np.int64)[:ours["tokens"] + 1]
    model = transformers.AutoModelForCausalLM.from_pretrained(source, attn_implementation="eager")
    inputs, targets = (torch.from_numpy(tokens[first:][:ours["tokens"]]).view(-1, SEQUENCE) for first in (0, 1))
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(inputs).logits.flatten(0, 1), targets.flatten())
    assert ours["loss"] == pytest.approx(loss.item(), abs=1e-5)


@pytest.mark.parametrize("ranks", [1, 2])
def test_left_out_keys_come_from_the_folder_which_is_handed_on(ranks, source, data, tmp_path):
    done = train(tmp_path, data, source, ranks=ranks, parallel__expert=ranks, optim__lr=1e-30)
    assert done.returncode == 0, done.stderr
    steps, evaluations = records(tmp_path / "run")
    assert [r["step"] for r in steps] == [1, 2]
    # Nothing was learned, so the run evaluates as the folder does.
    assert len(evaluations) == 1
    assert evaluate(tmp_path / "run", data)["loss"] == pytest.approx(evaluate(source, data)["loss"], abs=1e-6)
    step = tmp_path / "run/checkpoints/step-00000002"
    assert json.loads((step / "hf_config.json").read_text())["model_type"] == "mixtral"
    exported = switchyard("export", "--checkpoint", tmp_path / "run", "--format", "auto", "--out", tmp_path / "back")
    assert exported.returncode == 0, exported.stderr
    back = json.loads((tmp_path / "back/config.json").read_text())
    assert back["model_type"] == "mixtral" and back["sliding_window"] == 5 and back["max_position_embeddings"] == 64
    # Resumed, the run still has what came with the folder.
    assert train(tmp_path, data, source, train__steps=4, optim__lr=1e-30).returncode == 0
    assert (tmp_path / "run/checkpoints/step-00000004/hf_config.json").exists()


def test_keys_that_disagree_are_listed(source, data, tmp_path):
    text = CONFIG + "model: {hidden_size: 64, rms_norm_eps: 1.0e-5}\nmoe: {top_k: 1, capacity: {factor: 1.25}}\n"
    done = train(tmp_path, data, source, text=text)
    assert done.returncode == 2
    assert "this checkpoint is of another model" in done.stderr
    assert "`model.hidden_size` is 64 here, 32 there" in done.stderr
    assert "`moe.top_k` is 1 here, 2 there" in done.stderr
    assert "capacity" not in done.stderr and not (tmp_path / "run").exists()


def test_optimizer_state_that_is_not_there_is_refused(source, data, tmp_path):
    done = train(tmp_path, data, source, checkpoint__load_optimizer_state="true")
    assert done.returncode == 2 and "has no optimizer state" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_too_small_for_the_data_is_refused(data, tmp_path):
    save_tiny("llama", tmp_path / "hf")
    done = train(tmp_path, data, tmp_path / "hf")
    assert done.returncode == 2 and "97" in done.stderr and "257" in done.stderr, done.stderr


@pytest.mark.parametrize("command", ["inspect", "verify", "diff"])
def test_tools_of_checkpoints_say_how_to_get_one(command, source):
    done = switchyard(command, *[source] * (2 if command == "diff" else 1))
    assert done.returncode == 2 and f"switchyard import --from {source}" in done.stderr, done.stderr
