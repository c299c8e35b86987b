"""Routers whose papers have no class in transformers, against their formulas in numpy and torch, on random cases."""

import math

import numpy as np
import torch

CASES = 120

CONFIG = """
data: {{path: unused, sequence_length: 32}}
model: {{hidden_size: {hidden}, num_attention_heads: 1, head_dim: 8, vocab_size: 64}}
moe:
  num_experts: {experts}
  top_k: {top_k}
  router: {router}
train: {{precision: fp32}}
"""


def shapes(generator):
    experts = int(torch.randint(2, 12, (), generator=generator))
    top_k = int(torch.randint(1, min(experts, 3) + 1, (), generator=generator))
    tokens = int(torch.randint(1, 20, (), generator=generator))
    hidden = int(torch.randint(2, 9, (), generator=generator))
    x = torch.randn(tokens, hidden, generator=generator)
    if tokens > 2:
        x[1] = 0  # a token for which all experts tie
    return experts, top_k, tokens, hidden, x


def expect_top_k(ours, logits, top_k, case):
    """Softmax, the best k (ties to the lower id), renormalised; near-ties may fall either way."""
    logits = np.asarray(logits, dtype=np.float64)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    np.testing.assert_allclose(ours["logits"].numpy(), logits, rtol=1e-4, atol=1e-5)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
    chosen = ours["experts"].numpy()
    best = np.take_along_axis(p, order, 1)
    np.testing.assert_allclose(np.take_along_axis(p, chosen, 1), best, rtol=1e-4, atol=1e-6, err_msg=f"case {case}")
    np.testing.assert_allclose(ours["weights"].numpy(), best / best.sum(1, keepdims=True), rtol=1e-4, atol=1e-6)
    assert ours["kept"].all()
    return np.array_equal(chosen, order)


def test_R9_attention_router(probe_routers):
    generator = torch.Generator().manual_seed(9)
    cases, expected = [], []
    for _ in range(CASES):
        experts, top_k, tokens, hidden, x = shapes(generator)
        parts = {name: torch.randn(experts, hidden, generator=generator) for name in ("query", "key", "value")}
        cases.append((CONFIG.format(hidden=hidden, experts=experts, top_k=top_k, router="{type: attention}"),
                      {"x": x, "sequences": torch.tensor([1]), **{f"gate.{n}.weight": w for n, w in parts.items()}}))
        q, k, v = (x.double().numpy() @ parts[name].double().numpy().T for name in ("query", "key", "value"))
        scores = np.einsum("ti,tj->tij", q, k)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        expected.append((np.einsum("tij,tj->ti", scores / scores.sum(-1, keepdims=True), v), top_k))
    exact = sum(expect_top_k(ours, logits, top_k, case)
                for case, (ours, (logits, top_k)) in enumerate(zip(probe_routers(cases), expected)))
    assert exact > 0.9 * CASES


def test_R11_recurrent_router_is_a_gru_cell(probe_routers):
    generator = torch.Generator().manual_seed(11)
    cases, expected = [], []
    for case in range(CASES):
        experts, top_k, tokens, hidden, x = shapes(generator)
        state = int(torch.randint(1, 9, (), generator=generator))
        cell = torch.nn.GRUCell(state, state)
        with torch.no_grad():
            for parameter in cell.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            w1, w2 = torch.randn(state, hidden, generator=generator), torch.randn(experts, state, generator=generator)
            memory = torch.randn(tokens, state, generator=generator)
            start = case % 3 == 0  # the first layer: no memory yet
            after = cell(x @ w1.T, torch.zeros_like(memory) if start else memory)
            expected.append((after @ w2.T, after, top_k))
        router = f"{{type: recurrent, recurrent: {{hidden_size: {state}}}}}"
        tensors = {"x": x, "sequences": torch.tensor([1]), "gate.input.weight": w1, "gate.weight": w2,
                   **{f"gru.{name}": getattr(cell, name).detach()
                      for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}}
        if not start:
            tensors["memory"] = memory
        cases.append((CONFIG.format(hidden=hidden, experts=experts, top_k=top_k, router=router), tensors))
    exact = 0
    for case, (ours, (logits, memory, top_k)) in enumerate(zip(probe_routers(cases), expected)):
        torch.testing.assert_close(ours["memory"], memory, rtol=1e-4, atol=1e-5)
        exact += expect_top_k(ours, logits, top_k, case)
    assert exact > 0.9 * CASES


def dselect_k(x, selector, code, bias, experts, top_k, gamma, coef):
    """q (T, E) and the regularizer (T), as the authors' repository has them."""
    bits = code.shape[0] // top_k
    a = x @ selector.T
    a = np.exp(a - a.max(1, keepdims=True))
    a /= a.sum(1, keepdims=True)
    z = (x @ code.T + bias).reshape(len(x), top_k, bits)
    step = np.where(z <= -gamma / 2, 0.0, np.where(z >= gamma / 2, 1.0,
                                                   -2 / gamma**3 * z**3 + 3 / (2 * gamma) * z + 0.5))
    r = np.ones((len(x), top_k, experts))
    for i in range(experts):
        for j, bit in enumerate(np.binary_repr(i, width=bits)):
            r[:, :, i] *= step[:, :, j] if bit == "1" else 1 - step[:, :, j]
    regularizer = -coef * (r * np.log(r + 1e-6)).sum((1, 2))
    if experts != 2**bits:
        regularizer = regularizer + (1 / np.maximum(r.sum(2), 1e-6)).sum(1)
    return (a[:, :, None] * r).sum(1), regularizer


def test_R5_dselect_k(probe_routers):
    generator = torch.Generator().manual_seed(5)
    cases, expected = [], []
    for case in range(CASES):
        experts, top_k, tokens, hidden, x = shapes(generator)
        bits, gamma, coef = math.ceil(math.log2(experts)), (0.3, 1.0, 4.0)[case % 3], 0.05
        selector = torch.randn(top_k, hidden, generator=generator)
        code = 0.5 * torch.randn(top_k * bits, hidden, generator=generator)
        bias = 0.1 * torch.randn(top_k * bits, generator=generator)
        router = f"{{type: dselect_k, dselect_k: {{gamma: {gamma}, entropy_coef: {coef}}}}}"
        cases.append((CONFIG.format(hidden=hidden, experts=experts, top_k=top_k, router=router),
                      {"x": x, "sequences": torch.tensor([1]), "gate.selector.weight": selector,
                       "gate.code.weight": code, "gate.code.bias": bias}))
        arrays = (tensor.double().numpy() for tensor in (x, selector, code, bias))
        expected.append((*dselect_k(*arrays, experts, top_k, gamma, coef), top_k))
    decided = dense = 0
    for case, (ours, (q, regularizer, top_k)) in enumerate(zip(probe_routers(cases), expected)):
        table = torch.zeros(q.shape).scatter_(1, ours["experts"], ours["weights"]).numpy()
        np.testing.assert_allclose(table, q, rtol=1e-3, atol=2e-6, err_msg=f"case {case}")
        finite = regularizer < 1e3  # 1 / sum is steep where it nears its bound
        np.testing.assert_allclose(ours["regularizer"].numpy()[finite], regularizer[finite], rtol=1e-3, atol=1e-5)
        kept = torch.zeros(q.shape, dtype=torch.int64).scatter_(1, ours["experts"], ours["kept"]).numpy()
        assert np.array_equal(kept == 1, table > 0)
        assert (np.diff(ours["weights"].numpy(), axis=1) <= 0).all()
        decided += int((kept.sum(1) <= top_k).sum())
        dense += int((kept.sum(1) == q.shape[1]).sum())
    assert decided > CASES and dense > CASES
