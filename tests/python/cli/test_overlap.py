"""`parallel.overlap_grad_reduce` and `parallel.overlap_param_gather`: the same run, evaluated, saved, checked and gone on
with between two steps. Two ranks."""

import pytest
from conftest import numbers, switchyard, tensors
from runs import HARD

STEPS = {**HARD, "train__steps": 4, "train__eval_interval": 2, "train__eval_batches": 1, "train__check_replicas_interval": 1,
         "train__global_batch_size": 8, "train__micro_batch_size": 2, "checkpoint__interval": 2, "optim__schedule": "{type: constant}"}
OVERLAP = {"parallel__overlap_grad_reduce": "on", "parallel__overlap_param_gather": "on"}


@pytest.mark.parametrize("layout", [{"parallel__expert": 2}, {"parallel__expert": 1, "train__precision": "bf16"},
                                    {"parallel__expert": 1, "zero__stage": 2}], ids=["EP 2", "bf16", "ZeRO-2"])
def test_metrics_and_checkpoints_are_the_same_to_the_bit(train, tmp_path, layout):
    train("off", ranks=2, **STEPS, **layout)
    train("on", ranks=2, **{**STEPS, "train__steps": 2}, **layout, **OVERLAP)
    train("on", ranks=2, **STEPS, **layout, **OVERLAP)
    assert numbers(tmp_path / "on") == numbers(tmp_path / "off")
    on, off = (tmp_path / name / "checkpoints/step-00000004" for name in ("on", "off"))
    assert tensors(on) == tensors(off)
    assert switchyard("diff", on, off).returncode == 0


def test_a_word_that_is_not_known_is_refused(train):
    done = train("wrong", check=False, parallel__overlap_grad_reduce="yes")
    assert done.returncode == 2 and "`parallel.overlap_grad_reduce` must be one of auto, on, off, got `yes`" in done.stderr
