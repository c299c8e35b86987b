"""The layout never changes the model: `switchyard parity` over layouts, capacities and losses."""

import pytest
from conftest import TINY, files_in, switchyard
from parity import TIGHT, TOLERANCE, assert_equal, blend, parity


def test_every_layout_dropless(data):
    assert_equal(parity(data, "1x1,1x1a4,2x1,2x2,4x1,4x2,4x4,8x4"))


def test_every_layout_with_capacity(data):
    assert_equal(parity(data, "1x1,2x2,4x2a2,2x1a4", moe__capacity=TIGHT))


def test_zero_stage_2_with_accumulation(data):
    layouts = "1x1,1x1z2,2x1z2,2x2a2z2,4x1a2z2,4x2z2,4x2a2z0,4x4z2,8x2z2"
    assert_equal(parity(data, layouts, moe__capacity=TIGHT))


# Functions of counts, and those of other statistics, each as heavy as the language loss or so.
OF_COUNTS = ["switch", "gshard", "topk", "hf", "expert", "device", "communication"]
OF_OTHERS = ["importance", "load", "entropy", "local_entropy", "global_entropy", "sparsity_l1", "mean_importance",
             "mutual_information"]


@pytest.mark.parametrize("scope", ["group", "global", "global_lagged"])
def test_balance_losses(data, scope):
    kinds = {"group": OF_COUNTS + OF_OTHERS + ["sequence"], "global": OF_COUNTS + OF_OTHERS,
             "global_lagged": [kind for kind in OF_COUNTS if kind != "communication"]}[scope]
    losses = ", ".join(f"{{type: {kind}, scope: {scope}, coef: 0.05}}" for kind in kinds)
    assert_equal(parity(data, "1x1,2x2a4,4x2", moe__balance=f"[{losses}]", moe__num_experts=8,
                        moe__router="{noise_std: 0.1, n_group: 4, topk_group: 2, group_score: max}"))


def test_entropies_of_a_domain(data):
    losses = ("[{type: local_entropy, domain: 0, coef: 0.1}, "
              "{type: global_entropy, domain: 1, scope: global, threshold: 1.2, coef: 0.1}]")
    assert_equal(parity(data, "1x1,2x2a2,4x4", data__path=blend(data), moe__balance=losses))


def test_several_balance_losses_summed_over_layers(data):
    losses = ("[{type: switch, scope: group, coef: 0.02, layer_reduce: sum}, {type: topk, scope: global, coef: 0.03}, "
              "{type: hf, scope: global_lagged, coef: 0.01}]")
    assert_equal(parity(data, "1x1a2,4x2", moe__balance=losses, moe__z_loss="{coef: 0.01, layer_reduce: sum}"))


ROUTERS = {
    "sigmoid_with_bias_and_groups": {"moe__num_experts": 8, "moe__router": (
        "{score: sigmoid, selection_bias: true, bias_update_rate: 0.1, n_group: 4, topk_group: 2, scaling_factor: 2.5}")},
    "shared_experts": {"moe__shared_experts": "{num: 2, intermediate_size: 24, gated: true}", "moe__capacity": TIGHT},
    "jitter_and_dropout": {"model__dropout": 0.1, "moe__expert_dropout": 0.2, "moe__router__jitter_eps": 0.1},
    "unnormalised": {"moe__router": "{normalize: false, scaling_factor: 1.5}", "moe__balance": "[]",
                     "moe__z_loss__coef": 0},
    "random_priority": {"moe__allow_noncausal": "true", "moe__capacity": "{factor: 0.8, min: 1, priority: random}"},
    "data_inner": {"parallel__order": "data_inner", "moe__capacity": TIGHT, "zero__stage": 0},
    "sharded_gradients": {"zero__stage": 2, "model__dropout": 0.1, "moe__router__jitter_eps": 0.1,
                          "moe__balance": "{scope: global}"},
    "frozen": {"zero__stage": 2, "train__freeze": "[\"*.experts.0.*\", \"*.experts.1.*\", \"*.q_proj.*\"]"},
    "idle_experts": {"zero__stage": 2, "model__init_std": 0.02, "moe__top_k": 1, "moe__capacity": TIGHT},
    "tied_sharded": {"zero__stage": 2, "model__tie_word_embeddings": "true"},
    "tied_embeddings": {"model__tie_word_embeddings": "true", "model__qk_norm": "head", "model__attention_bias": "true"},
}


@pytest.mark.parametrize("name", ROUTERS)
def test_routers(data, name):
    assert_equal(parity(data, "1x1,4x2,2x2a4" if name == "data_inner" else "1x1,4x2a2", **ROUTERS[name]))


def test_batch_priority_in_groups_of_two_sequences(data):
    report = parity(data, "1x1,1x1a4,2x2,4x4", moe__group_sequences=2, moe__allow_noncausal="true",
                    moe__capacity="{factor: 0.8, min: 1, priority: probability}")
    assert_equal(report)


@pytest.mark.parametrize("settings, named", [
    ({"moe__balance": "{scope: micro_batch, coef: 0.05}"}, "moe.balance.scope: micro_batch"),
    ({"moe__capacity": "{factor: 1.0, min: 1, scope: rank}", "moe__allow_noncausal": "true"}, "moe.capacity.scope: rank"),
], ids=["micro_batch", "rank"])
def test_settings_that_depend_on_the_layout_are_named_with_their_difference(settings, named, data):
    report = parity(data, "1x1,2x2a2", **settings)
    assert report["layout_dependent"] == [named] and not report["ok"]
    assert report["layouts"][0]["gradient"] > 10 * TOLERANCE and report["layouts"][0]["samples_equal"]


PLANTS = {"expert-mean": {"gradient"}, "norm-twice": {"norm"}, "balance-times-micro": {"gradient", "norm"},
          "capacity-rank": {"loss", "gradient", "norm", "dropped"}}


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_errors_are_found_in_the_right_place(data, plant):
    report = parity(data, "1x1,2x2a2", "--plant", plant, moe__capacity=TIGHT, moe__balance="{coef: 0.05}")
    assert not report["ok"]
    row = report["layouts"][0]
    found = {field for field in ("loss", "gradient", "norm") if row[field] > 10 * TOLERANCE}
    assert found | ({"dropped"} if not row["dropped_equal"] else set()) == PLANTS[plant], row
    assert row["samples_equal"]
    if plant == "expert-mean":
        assert ".experts." in row["worst_parameter"]


def test_without_json_it_prints_a_line_per_layout_and_leaves_no_file(data, tmp_path):
    done = switchyard("parity", TINY, "--layouts", "1x1,2x2", "--steps", 1, "--set", f"data.path={data}", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("2x2      equal  loss "), done.stderr
    assert done.stdout.count("\n") == 1 and files_in(tmp_path) == []
