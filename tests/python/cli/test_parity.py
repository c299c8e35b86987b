"""The layout never changes the model: `switchyard parity` over layouts, capacities, losses and routers."""

import json

import pytest
from conftest import SOURCE, switchyard

TOLERANCE = 1e-5


def parity(data, layouts, *settings, plant="none", steps=2):
    words = ["parity", SOURCE / "configs/tiny.yaml", "--layouts", layouts, "--steps", steps, "--json", "--plant", plant,
             "--set", f"data.path={data}"]
    for setting in settings:
        words += ["--set", setting]
    done = switchyard(*words)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] == (done.returncode == 0)
    return report


def assert_equal(report):
    for row in report["layouts"]:
        assert row["ok"] and row["samples_equal"] and row["dropped_equal"], row
        assert max(row["loss"], row["gradient"], row["norm"]) < TOLERANCE, row


def test_every_layout_dropless(data):
    assert_equal(parity(data, "1x1,1x1a4,2x1,2x1a4,2x2,4x1,4x2,4x4,8x4"))


def test_every_layout_with_capacity(data):
    assert_equal(parity(data, "1x1,2x1,2x2a4,4x2,4x4,8x4", "moe.capacity={factor: 1.0, min: 1}"))


@pytest.mark.parametrize("scope", ["group", "global", "global_lagged"])
@pytest.mark.parametrize("kind", ["switch", "gshard", "topk", "hf"])
def test_balance_losses(data, kind, scope):
    assert_equal(parity(data, "1x1a2,2x2a4", f"moe.balance={{type: {kind}, scope: {scope}, coef: 0.05}}"))


ROUTERS = {
    "switch": ["moe.top_k=1", "moe.router={type: switch, jitter_eps: 0.1}", "moe.capacity={factor: 1.0, min: 1}"],
    "gshard": ["moe.router={type: gshard, second_expert_policy: random}", "moe.allow_noncausal=true",
               "moe.capacity={factor: 1.0, min: 1}"],
    "sigmoid_bias_groups": ["moe.num_experts=8", "moe.router={score: sigmoid, selection_bias: true, n_group: 4, "
                            "topk_group: 2, scaling_factor: 2.5}"],
    "shared_gated_dropout": ["moe.shared_experts={num: 1, intermediate_size: 32, gated: true}", "model.dropout=0.1",
                             "moe.expert_dropout=0.2"],
    "batch_priority_groups_of_two": ["moe.group_sequences=2", "moe.allow_noncausal=true",
                                     "moe.capacity={factor: 0.8, min: 1, priority: probability}"],
}


@pytest.mark.parametrize("name", ROUTERS)
def test_routers(data, name):
    layouts = "1x1,2x2,2x1a2,4x4" if name == "batch_priority_groups_of_two" else "1x1,2x2a4,4x2"
    assert_equal(parity(data, layouts, *ROUTERS[name]))


@pytest.mark.parametrize("setting", ["moe.balance={scope: micro_batch, coef: 0.05}",
                                     "moe.capacity={factor: 1.0, min: 1, scope: rank}"])
def test_layout_dependent_settings_are_named_with_their_difference(data, setting):
    report = parity(data, "1x1,2x2a2", setting)
    assert len(report["layout_dependent"]) == 1
    assert not report["ok"] and report["layouts"][0]["gradient"] > TOLERANCE


@pytest.mark.parametrize("plant, field", [("expert-mean", "gradient"), ("norm-twice", "norm"),
                                          ("balance-times-micro", "gradient"), ("capacity-rank", "gradient")])
def test_planted_errors_are_found(data, plant, field):
    settings = ["moe.capacity={factor: 1.0, min: 1}", "moe.balance={coef: 0.05}"]
    row = parity(data, "1x1,2x2a2", *settings, plant=plant)["layouts"][0]
    assert not row["ok"] and row[field] > 10 * TOLERANCE
    assert row["dropped_equal"] == (plant != "capacity-rank")
