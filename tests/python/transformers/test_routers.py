"""Parity of routing with transformers' Switch, NLLB, Aria and DeepSeek routers, on random cases."""

import math

import pytest
import torch
from transformers import (AriaTextConfig, DeepseekV2Config, DeepseekV3Config, NllbMoeConfig,
                          SwitchTransformersConfig)
from transformers.models.aria.modeling_aria import AriaTextTopKRouter
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2TopkRouter
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter
from transformers.models.nllb_moe.modeling_nllb_moe import NllbMoeTop2Router
from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersTop1Router

CASES = 100

CONFIG = """
data: {{path: unused, sequence_length: 32}}
model: {{hidden_size: {hidden}, num_attention_heads: 1, head_dim: 8, vocab_size: 64}}
moe:
  num_experts: {experts}
  top_k: {top_k}
  allow_noncausal: true
  router: {router}
  capacity: {{factor: {factor}, counts_k: {counts_k}, min: 1, round: nearest}}
train: {{precision: fp32}}
"""


def dense(ours, experts):
    """(T, K) ids and weights as a (T, E) table of combine weights, and of what was kept."""
    shape = (ours["experts"].shape[0], experts)
    weights = torch.zeros(shape).scatter_(1, ours["experts"], ours["weights"])
    kept = torch.zeros(shape, dtype=torch.int64).scatter_(1, ours["experts"], ours["kept"])
    return weights, kept


def random_case(generator):
    experts = int(torch.randint(2, 9, (), generator=generator))
    tokens = int(torch.randint(1, 12, (), generator=generator)) * experts
    hidden = 8
    x = torch.randn(tokens, hidden, generator=generator)
    gate = torch.randn(experts, hidden, generator=generator)
    return experts, tokens, hidden, x, gate


def test_C3_switch_top1(probe_routers):
    generator = torch.Generator().manual_seed(0)
    cases, expected = [], []
    for _ in range(CASES):
        experts, tokens, hidden, x, gate = random_case(generator)
        capacity = int(torch.randint(1, tokens + 1, (), generator=generator))
        config = SwitchTransformersConfig(num_experts=experts, hidden_size=hidden, d_model=hidden,
                                          expert_capacity=capacity, router_bias=False, router_jitter_noise=0.0)
        router = SwitchTransformersTop1Router(config).eval()
        both = torch.stack([x, x.flip(0) * 0.7])  # two sequences: capacity is theirs, not the batch's
        with torch.no_grad():
            router.classifier.weight.copy_(gate)
            mask, probs, logits = router(both)
        text = CONFIG.format(hidden=hidden, experts=experts, top_k=1, router="{type: switch}", counts_k="true",
                             factor=repr(capacity * experts / tokens))
        cases.append((text, {"x": both.reshape(-1, hidden), "gate.weight": gate, "sequences": torch.tensor([2])}))
        expected.append((experts, mask, probs, logits))

    dropped = 0
    for case, (ours, (experts, mask, probs, logits)) in enumerate(zip(probe_routers(cases), expected)):
        weights, kept = dense(ours, experts)
        torch.testing.assert_close(ours["logits"], logits.reshape(-1, experts), rtol=1e-5, atol=1e-5)
        assert torch.equal(kept, mask.reshape(-1, experts)), f"case {case}"
        torch.testing.assert_close(weights, (mask * probs).reshape(-1, experts), rtol=1e-5, atol=1e-6)
        dropped += int((kept.sum(1) == 0).sum())
    assert dropped > CASES, "capacities were too large to test drops"


def nllb_router(experts, hidden, gate, before, training, fraction, prioritized=False):
    config = NllbMoeConfig(num_experts=experts, d_model=hidden, hidden_size=hidden, router_bias=False,
                           second_expert_policy="all", normalize_router_prob_before_dropping=before,
                           batch_prioritized_routing=prioritized, moe_eval_capacity_token_fraction=fraction)
    router = NllbMoeTop2Router(config)
    router.expert_capacity = None  # twice the even share, as fairseq has it
    router.train(training)
    with torch.no_grad():
        router.classifier.weight.copy_(gate)
    return router


def test_C2_nllb_top2(probe_routers):
    generator = torch.Generator().manual_seed(0)
    cases, expected = [], []
    for case in range(CASES):
        experts, tokens, hidden, x, gate = random_case(generator)
        before, training, fraction = case % 2 == 0, case % 4 < 2, 0.3
        capacity = 2 * math.ceil(tokens / experts) if training else math.ceil(fraction * tokens)
        router = nllb_router(experts, hidden, gate, before, training, fraction)
        with torch.no_grad():
            first, combined = router.route_tokens(x @ gate.t())
        order = "before_drop" if before else "after_drop"
        text = CONFIG.format(hidden=hidden, experts=experts, top_k=2, counts_k="true",
                             router=f"{{type: gshard, second_expert_policy: all, normalize_gate: {order}}}",
                             factor=repr(capacity * experts / (2 * tokens)))
        cases.append((text, {"x": x, "gate.weight": gate, "sequences": torch.tensor([1])}))
        expected.append((experts, first, combined))

    dropped = 0
    for case, (ours, (experts, first, combined)) in enumerate(zip(probe_routers(cases), expected)):
        weights, kept = dense(ours, experts)
        torch.testing.assert_close(weights, combined, rtol=1e-5, atol=1e-6)
        first_choice = torch.nn.functional.one_hot(ours["experts"][:, 0], experts)
        assert torch.equal(kept * first_choice, first), f"case {case}"
        dropped += int(2 * kept.shape[0] - kept.sum())
    assert dropped > CASES, "capacities were too large to test drops"


def test_R1_nllb_with_batch_prioritized_routing(probe_routers):
    generator = torch.Generator().manual_seed(1)
    cases, expected = [], []
    for case in range(CASES):
        experts, tokens, hidden, x, gate = random_case(generator)
        training, fraction = case % 2 == 0, 0.3
        capacity = 2 * math.ceil(tokens / experts) if training else math.ceil(fraction * tokens)
        router = nllb_router(experts, hidden, gate, True, training, fraction, prioritized=True)
        with torch.no_grad():
            first, combined = router.route_tokens(x @ gate.t())
        text = CONFIG.format(hidden=hidden, experts=experts, top_k=2, router="{type: topk}",
                             counts_k="true, priority: probability",
                             factor=repr(capacity * experts / (2 * tokens)))
        cases.append((text, {"x": x, "gate.weight": gate, "sequences": torch.tensor([1])}))
        expected.append((experts, first, combined))

    dropped = 0
    for case, (ours, (experts, first, combined)) in enumerate(zip(probe_routers(cases), expected)):
        weights, kept = dense(ours, experts)
        torch.testing.assert_close(weights, combined, rtol=1e-5, atol=1e-6)
        first_choice = torch.nn.functional.one_hot(ours["experts"][:, 0], experts)
        assert torch.equal(kept * first_choice, first), f"case {case}"
        dropped += int(2 * kept.shape[0] - kept.sum())
    assert dropped > CASES, "capacities were too large to test drops"


DROPLESS = """
data: {{path: unused, sequence_length: 32}}
model: {{hidden_size: {hidden}, num_attention_heads: 1, head_dim: 8, vocab_size: 64}}
moe: {{num_experts: {experts}, top_k: {top_k}, router: {router}}}
train: {{precision: fp32}}
"""


def gates(generator, experts, hidden, case):
    """Every third case has pairs of equal experts, every third one that no token wants."""
    gate = torch.randn(experts, hidden, generator=generator)
    if case % 3 == 1:
        gate[1::2] = gate[::2][: experts // 2]
    if case % 3 == 2:
        gate[experts // 2] = 0
        gate[experts // 2, 0] = -50
    return gate


def hidden_states(generator, tokens, hidden):
    x = torch.randn(tokens, hidden, generator=generator)
    x[:, 0] = 1
    return x


def check_routing(ours, case, logits, weights, ids, scores, experts):
    """weights and ids (T, K) of transformers, in any order; equal scores may have gone to either expert there."""
    torch.testing.assert_close(ours["logits"], logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours["weights"].sort(1).values, weights.sort(1).values, rtol=1e-5, atol=1e-6)
    table = dense(ours, experts)[0]
    if case % 3 != 1:
        torch.testing.assert_close(table, torch.zeros_like(table).scatter_(1, ids, weights), rtol=1e-5, atol=1e-6)
        if case % 3 == 2:
            assert not (ours["experts"] == experts // 2).any(), f"case {case}: an expert that nobody wants"
        return
    # The lower of two equal experts goes first: where the upper one is chosen, so is the lower.
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, ours["experts"], True)
    lower, upper = chosen[:, ::2], chosen[:, 1::2]
    assert not (upper & ~lower[:, : upper.shape[1]]).any(), f"case {case}: a tie went to the upper expert"


def test_C1_C8_aria_top_k(probe_routers):
    """Softmax over the kept logits: noisy top-k without its noise, and Mixtral's."""
    generator = torch.Generator().manual_seed(2)
    cases, expected = [], []
    for case in range(2 * CASES):
        experts, hidden, tokens = 4 + case % 5, 8, 24
        top_k = 1 + case % 3
        gate, x = gates(generator, experts, hidden, case), hidden_states(generator, tokens, hidden)
        router = AriaTextTopKRouter(AriaTextConfig(moe_num_experts=experts, moe_topk=top_k, hidden_size=hidden,
                                                   num_attention_heads=1, num_key_value_heads=1))
        with torch.no_grad():
            router.weight.copy_(gate)
            expected.append((experts, *router(x)))
        kind = "noisy_topk" if case < CASES else "topk"
        tensors = {"x": x, "gate.weight": gate, "sequences": torch.tensor([1])}
        if kind == "noisy_topk":
            tensors["gate.noise.weight"] = torch.randn(gate.shape, generator=generator)
        cases.append((DROPLESS.format(hidden=hidden, experts=experts, top_k=top_k, router=f"{{type: {kind}}}"),
                      tensors))
    for case, (ours, (experts, logits, weights, ids)) in enumerate(zip(probe_routers(cases), expected)):
        check_routing(ours, case, logits, weights, ids, logits, experts)


@pytest.mark.parametrize("method", ["greedy", "group_limited_greedy"])
def test_R8_L7_deepseek_v2(method, probe_routers):
    generator = torch.Generator().manual_seed(3)
    cases, expected = [], []
    limited = method == "group_limited_greedy"
    for case in range(CASES):
        groups, hidden, tokens = 2 + case % 3, 8, 24
        experts, topk_group = groups * (2 + case % 2 * 2), 1 + case % 2
        top_k, scale = 1 + case % (2 * topk_group), 1.0 + case % 4
        gate, x = gates(generator, experts, hidden, case), hidden_states(generator, tokens, hidden)
        config = DeepseekV2Config(n_routed_experts=experts, num_experts_per_tok=top_k, hidden_size=hidden,
                                  topk_method=method, n_group=groups, topk_group=topk_group,
                                  routed_scaling_factor=scale, num_attention_heads=1, num_key_value_heads=1)
        router = DeepseekV2TopkRouter(config)
        with torch.no_grad():
            router.weight.copy_(gate)
            expected.append((experts, groups, topk_group, *router(x)))
        grouped = f", n_group: {groups}, topk_group: {topk_group}, group_score: max" if limited else ""
        text = DROPLESS.format(hidden=hidden, experts=experts, top_k=top_k,
                               router=f"{{normalize: false, scaling_factor: {scale}{grouped}}}")
        cases.append((text, {"x": x, "gate.weight": gate, "sequences": torch.tensor([1])}))
    for case, (ours, (experts, groups, topk_group, logits, weights, ids)) in enumerate(
            zip(probe_routers(cases), expected)):
        check_routing(ours, case, logits, weights, ids, logits, experts)
        if limited:
            touched = torch.nn.functional.one_hot(ours["experts"] // (experts // groups), groups).amax(1).sum(1)
            assert touched.max() <= topk_group


def test_R12_deepseek_v3_with_one_group(probe_routers):
    generator = torch.Generator().manual_seed(4)
    cases, expected = [], []
    for case in range(CASES):
        experts, hidden, tokens = 4 + case % 5, 8, 24
        top_k, normalize, scale = 1 + case % 3, case % 2 == 0, 1.0 + case % 4
        gate, x = gates(generator, experts, hidden, case), hidden_states(generator, tokens, hidden)
        bias = 0.3 * torch.randn(experts, generator=generator)
        if case % 3 == 1:
            bias[1::2] = bias[::2][: experts // 2]
        if case % 3 == 2:
            bias[experts // 2] = -2
        config = DeepseekV3Config(n_routed_experts=experts, num_experts_per_tok=top_k, hidden_size=hidden, n_group=1,
                                  topk_group=1, norm_topk_prob=normalize, routed_scaling_factor=scale,
                                  num_attention_heads=1, num_key_value_heads=1)
        router = DeepseekV3TopkRouter(config)
        with torch.no_grad():
            router.weight.copy_(gate)
            router.e_score_correction_bias.copy_(bias)
            logits, weights, ids = router(x)
            expected.append((experts, logits, weights, ids))
        assert case % 3 or not torch.equal(ids.sort(1).values, logits.topk(top_k, 1).indices.sort(1).values)
        text = DROPLESS.format(hidden=hidden, experts=experts, top_k=top_k,
                               router=f"{{score: sigmoid, selection_bias: true, normalize: {str(normalize).lower()}, "
                                      f"scaling_factor: {scale}}}")
        cases.append((text, {"x": x, "gate.weight": gate, "gate.e_score_correction_bias": bias,
                             "sequences": torch.tensor([1])}))
    for case, (ours, (experts, logits, weights, ids)) in enumerate(zip(probe_routers(cases), expected)):
        check_routing(ours, case, logits, weights, ids, logits, experts)
