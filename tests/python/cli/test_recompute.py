"""`train.recompute`: the same run with less memory. Two ranks, an expert group and a data-parallel pair."""

import json

import pytest
from conftest import numbers, switchyard, tensors
from runs import HARD

STEPS = {**HARD, "train__steps": 4, "train__eval_interval": 2, "train__eval_batches": 1, "checkpoint__interval": 2,
         "train__global_batch_size": 8, "train__micro_batch_size": 2, "moe__shared_experts": "{num: 1, intermediate_size: 16}"}


def steps_and_bytes(run):
    """What a run wrote, clocks left out, and apart from that what it sent in each step."""
    lines = [json.loads(line) for line in numbers(run)]
    return lines, [line.pop("exchange_bytes") for line in lines if "exchange_bytes" in line]


@pytest.mark.parametrize("layout", [{"parallel__expert": 2, "train__precision": "fp32"},
                                    {"parallel__expert": 1, "train__precision": "bf16", "zero__stage": 2}],
                         ids=["EP 2", "ZeRO-2"])
def test_metrics_and_checkpoints_are_the_same_to_the_bit(train, tmp_path, layout):
    train("none", ranks=2, **STEPS, **layout)
    for mode in ("experts", "layer"):
        train(mode, ranks=2, **STEPS, **layout, train__recompute=mode)
        again, once = (steps_and_bytes(tmp_path / name) for name in (mode, "none"))
        assert again[0] == once[0]
        if mode == "layer":  # rows go six ways for four, counts and ids their one
            assert all(sent <= more <= 1.5 * sent for more, sent in zip(again[1], once[1], strict=True))
        else:
            assert again[1] == once[1]
        ours, theirs = (tmp_path / name / "checkpoints/step-00000004" for name in (mode, "none"))
        assert tensors(ours) == tensors(theirs)
        assert switchyard("diff", ours, theirs).returncode == 0


def test_a_run_goes_on_in_another_mode(train, tmp_path):
    train("parts", **{**STEPS, "train__steps": 2, "optim__schedule": "{type: constant}"})
    train("other", **{**STEPS, "optim__schedule": "{type: constant}"})
    train("parts", **{**STEPS, "optim__schedule": "{type: constant}"}, train__recompute="layer")
    assert tensors(tmp_path / "parts/checkpoints/step-00000004") == tensors(tmp_path / "other/checkpoints/step-00000004")


def test_a_word_that_is_not_known_is_refused(train):
    done = train("wrong", check=False, train__recompute="full")
    assert done.returncode == 2 and "called layer here" in done.stderr
