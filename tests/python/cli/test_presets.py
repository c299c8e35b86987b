"""Published models as configs: their sizes, and the same files scaled down and trained."""

import json

import pytest
from conftest import records, sets, switchyard
from runs import SOURCE

PRESETS = SOURCE / "configs/presets"
# Total and active parameters as published, rounded there; None: not told, or of another form.
PUBLISHED = {"mixtral_8x7b": (46.7e9, 12.9e9), "deepseekmoe_16b": (16.4e9, 2.8e9), "olmoe_1b_7b": (6.9e9, 1.3e9),
             "qwen3_30b_a3b": (30.5e9, 3.3e9), "qwen3_235b_a22b": (235e9, 22e9), "switch_base_8": (0.62e9, None),
             "switch_c_2048": (1.571e12, None)}
SMALL = {"data__sequence_length": 32, "model__vocab_size": "auto", "model__hidden_size": 64,
         "model__num_hidden_layers": 2, "model__num_attention_heads": 4, "model__num_key_value_heads": 2,
         "model__head_dim": 16, "model__intermediate_size": 96, "model__init_std": 0.02, "moe__num_experts": 16,
         "moe__expert_intermediate_size": 64, "moe__shared_experts__intermediate_size": 64, "parallel__expert": 2,
         "optim__schedule__warmup_steps": 2, "optim__lr": 5e-3, "train__steps": 8, "train__global_batch_size": 8,
         "train__micro_batch_size": 4, "train__log_interval": 1, "train__eval_interval": 0, "train__precision": "fp32",
         "train__threads": 1, "checkpoint__interval": 0}


def plan(preset, ranks):
    done = switchyard("plan", PRESETS / f"{preset}.yaml", "--ranks", ranks, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("preset", PUBLISHED)
def test_sizes_are_the_published_ones(preset):
    total, active = PUBLISHED[preset]
    size = plan(preset, 2048)
    assert size["parameters_total"] == pytest.approx(total, rel=0.01)
    assert active is None or size["parameters_active"] == pytest.approx(active, rel=0.03)


def test_gshards_experts_are_two_thousand_in_every_other_layer():
    # "600B" is rounded to one digit: only the experts can be told exactly.
    assert plan("gshard_600b", 2048)["parameters_total"] == pytest.approx(18 * 2048 * 2 * 1024 * 8192, rel=0.01)


@pytest.mark.parametrize("ranks", [2048, 4096])
def test_C4_switch_c_has_its_parameters_and_bytes_on_any_number_of_ranks(ranks):
    size = plan("switch_c_2048", ranks)
    experts = 30 * 2048 * 2 * 2080 * 6144
    dense = size["parameters_total"] - experts
    assert size["parameters_total"] == pytest.approx(1.571e12, rel=0.01)
    # bfloat16 weights: all that is dense, and as many experts as fall to one rank.
    assert size["bytes_per_rank"]["parameters"] == pytest.approx(2 * (dense + experts / 2048), rel=1e-6)


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_C4_the_same_file_scaled_down_trains_on_two_ranks(preset, data, tmp_path):
    layers = {"moe__layers": "last:1"} if preset == "deepseekmoe_16b" else {}
    done = switchyard("train", PRESETS / f"{preset}.yaml", *sets({**SMALL, **layers, "run__dir": tmp_path,
                                                                   "data__path": data}), ranks=2)
    assert done.returncode == 0, done.stderr
    steps, _ = records(tmp_path / preset.replace("_", "-"))
    assert [step["step"] for step in steps] == list(range(1, 9))
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.2
