"""Published models as configs: their sizes, and the same files scaled down and trained."""

import json

import pytest
from conftest import records, sets, switchyard
from runs import SOURCE

SWITCH_C = SOURCE / "configs/presets/switch_c_2048.yaml"


@pytest.mark.parametrize("ranks", [2048, 4096])
def test_C4_switch_c_has_its_parameters(ranks):
    done = switchyard("plan", SWITCH_C, "--ranks", ranks, "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["parameters_total"] == pytest.approx(1.571e12, rel=0.01)
    # bfloat16 weights: all that is dense, and as many experts as fall to one rank.
    experts = 30 * 2048 * 2 * 2080 * 6144
    dense = plan["parameters_total"] - experts
    assert plan["bytes_per_rank"]["parameters"] == pytest.approx(2 * (dense + experts / 2048), rel=1e-6)


def test_C4_the_same_file_scaled_down_trains_on_two_ranks(data, tmp_path):
    small = {"run__dir": tmp_path, "data__path": data, "data__sequence_length": 32, "model__vocab_size": "auto",
             "model__hidden_size": 64, "model__num_hidden_layers": 2, "model__num_attention_heads": 2,
             "model__head_dim": 32, "model__intermediate_size": 96, "moe__num_experts": 32,
             "moe__expert_intermediate_size": 96, "parallel__expert": 2, "optim__schedule__warmup_steps": 2,
             "train__steps": 8, "train__global_batch_size": 8, "train__micro_batch_size": 4, "train__log_interval": 1,
             "train__eval_interval": 0, "train__precision": "fp32", "train__threads": 1, "checkpoint__interval": 0}
    done = switchyard("train", SWITCH_C, *sets(small), ranks=2)
    assert done.returncode == 0, done.stderr
    steps, _ = records(tmp_path / "switch-c-2048")
    assert [step["step"] for step in steps] == list(range(1, 9))
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.2
