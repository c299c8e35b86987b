"""Parity of routing with transformers' Switch, NLLB, Aria and DeepSeek routers, on random cases."""

import math

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


@pytest.mark.parametrize("prioritized", [False, True], ids=["C2", "R1"])
def test_C2_R1_nllb_top2(prioritized, probe_routers):
    """GShard's top-2 with first choices first, and batch prioritised routing (R1)."""
    generator = torch.Generator().manual_seed(0)
    cases, expected = [], []
    for case in range(CASES):
        experts, tokens, hidden, x, gate = random_case(generator)
        before, training, fraction = case % 2 == 0, case % 4 < 2, 0.3
        capacity = 2 * math.ceil(tokens / experts) if training else math.ceil(fraction * tokens)
        router = nllb_router(experts, hidden, gate, before, training, fraction, prioritized)
        with torch.no_grad():
            first, combined = router.route_tokens(x @ gate.t())
        order = "before_drop" if before else "after_drop"
        # Priorities are topk's: its normalize is before_drop. After the drop no router of ours rescales by them.
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
