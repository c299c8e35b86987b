"""The layout never changes the model, whatever the router draws: `switchyard parity` of every router."""

import pytest
from parity import TIGHT, assert_equal, blend, parity

AHEAD = {"moe__allow_noncausal": "true"}
ONE = {"moe__top_k": 1}
# Every router of the factory, with everything that it draws.
EVERY_ROUTER = {
    "topk": {"moe__router": "{noise_std: 0.2, jitter_eps: 0.1, expert_dropout: 0.3, logit_normalization: 2}"},
    "switch": {**ONE, "moe__router": "{type: switch, exploration: sample, reroute_choices: 2}", "moe__capacity": TIGHT},
    "group_limited": {**AHEAD, "moe__num_experts": 8, "moe__router": (
        "{type: group_limited, n_group: 4, topk_group: 2, noise_std: 0.2, normalize: false}"),
        "moe__capacity": "{device_factor: 1.0, protected_fraction: 0.2}"},
    "gshard": {**AHEAD, "moe__router": "{type: gshard, second_expert_policy: sampling, jitter_eps: 0.1}",
               "moe__capacity": TIGHT},
    "noisy_topk": {"moe__router": "{type: noisy_topk, noisy_topk: {groups: 2, groups_per_token: 2}}",
                   "moe__balance": "[{type: importance, coef: 0.1}, {type: load, coef: 0.1}]"},
    "expert_choice": {**AHEAD, "moe__router": "{type: expert_choice}", "moe__group_sequences": 2},
    "base": {**AHEAD, **ONE, "moe__router": "{type: base}", "moe__group_sequences": 2},
    "sinkhorn": {**AHEAD, **ONE, "moe__router": "{type: sinkhorn}"},
    "sparse_ot": {**AHEAD, "moe__router": "{type: sparse_ot}"},
    "reinforce": {**ONE, "moe__router": "{type: reinforce}"},
    "hash": {"moe__router": "{type: hash, hash: {method: balanced, parts: 2}}"},
    "dselect_k": {"moe__router": "{type: dselect_k, dselect_k: {entropy_coef: 0.1}}"},
    "attention": {"moe__router": "{type: attention}"},
    "recurrent": {"moe__router": "{type: recurrent, recurrent: {hidden_size: 16}}"},
    "sparsemixer": {"moe__router": "{type: sparsemixer, sparsemixer: {eps: 0.5}}"},
    "dense_training": {"moe__router": "{type: dense_training}",
                       "moe__balance": "{type: mutual_information, coef: 0.1, scope: global}"},
    "domain": {**ONE, "moe__router": "{type: domain}"},
    "sequence": {**ONE, "moe__router": "{type: sequence, sequence: {clusters: 2, embedding_size: 8, temperature: 1}}",
                 "moe__shared_experts": "{num: 1, intermediate_size: 24}"},
}


@pytest.mark.parametrize("name", EVERY_ROUTER)
def test_every_router_with_its_noise(data, name):
    settings = {"data__path": blend(data)} if name in ("domain", "sequence") else {}
    assert_equal(parity(data, "1x1,2x2a2,4x2,4x4", **EVERY_ROUTER[name], **settings))
