"""Routers that decide over a routing group, against solvers of scipy and plain numpy, on random cases."""

import numpy
import pytest
import torch
from scipy import optimize

CASES = 100

CONFIG = """
data: {{path: unused, sequence_length: 32}}
model: {{hidden_size: {experts}, num_attention_heads: 1, head_dim: 8, vocab_size: 64}}
moe:
  num_experts: {experts}
  top_k: {top_k}
  allow_noncausal: true
  router: {router}
train: {{precision: fp32}}
"""


def case(logits, router, top_k=1, groups=1):
    """A case whose logits are the hidden states: the gate is the identity."""
    experts = logits.shape[1]
    config = CONFIG.format(experts=experts, top_k=top_k, router=router)
    return config, {"x": torch.tensor(logits, dtype=torch.float32), "gate.weight": torch.eye(experts),
                    "sequences": torch.tensor([groups]), "train": torch.tensor([1])}


def softmax(z):
    p = numpy.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def random_logits(rng, tokens, experts, ties):
    """Some experts are liked by most tokens, and some hardly by any."""
    z = rng.normal(size=(tokens, experts)) + rng.normal(size=experts) * rng.choice([0, 1, 5])
    return (numpy.round(z) if ties else z).astype(numpy.float32)


def tables(ours, experts):
    """(T, E): which pairs were chosen, and their weights."""
    tokens = ours["experts"].shape[0]
    chosen = torch.zeros(tokens, experts, dtype=torch.int64).scatter_(1, ours["experts"], ours["kept"])
    weights = torch.zeros(tokens, experts).scatter_(1, ours["experts"], ours["weights"])
    assert int(chosen.sum()) == int(ours["kept"].sum()), "an expert twice"
    return chosen.numpy().astype(bool), weights.numpy()


def test_R2_expert_choice(probe_routers):
    rng = numpy.random.default_rng(0)
    cases, inputs = [], []
    for i in range(CASES):
        experts, group, groups = int(rng.integers(2, 9)), int(rng.integers(1, 40)), int(rng.integers(1, 4))
        z = random_logits(rng, group * groups, experts, ties=i % 3 == 0)
        factor = float(rng.choice([0.5, 1, 1.5, 2, experts]))
        cases.append(case(z, f"{{type: expert_choice, expert_choice: {{capacity_factor: {factor}}}}}", groups=groups))
        inputs.append((z, group, groups, factor))
    for ours, (z, group, groups, factor) in zip(probe_routers(cases), inputs):
        experts = z.shape[1]
        probs = torch.softmax(torch.from_numpy(z), 1).numpy()
        capacity = min(group, max(1, int(numpy.ceil(group * factor / experts))))
        expected = numpy.zeros_like(probs, dtype=bool)
        for begin in range(0, group * groups, group):
            for e in range(experts):
                best = numpy.argsort(-probs[begin:begin + group, e], kind="stable")[:capacity]
                expected[begin + best, e] = True
        chosen, weights = tables(ours, experts)
        assert (chosen == expected).all()
        assert (chosen.sum(0) == groups * capacity).all()
        assert chosen.sum() == groups * experts * capacity
        if factor == experts:
            assert chosen.all()
        numpy.testing.assert_allclose(weights, probs * expected, rtol=1e-5, atol=1e-7)


def best_capped(scores, capacity, cap):
    """The value of the linear program without entropy, its experts' sums at most `capacity`."""
    tokens, experts = scores.shape
    per_token = numpy.kron(numpy.eye(tokens), numpy.ones(experts))
    per_expert = numpy.kron(numpy.ones(tokens), numpy.eye(experts))
    solved = optimize.linprog(-scores.ravel(), A_ub=numpy.vstack([per_token, per_expert]),
                              b_ub=[cap] * tokens + [capacity] * experts, bounds=(0, 1), method="highs")
    assert solved.success
    return -solved.fun


def test_R2_capped_choice_against_linprog(probe_routers):
    rng = numpy.random.default_rng(1)
    cases, inputs = [], []
    for i in range(CASES):
        experts, tokens = int(rng.integers(3, 9)), int(rng.integers(8, 49))
        cap, factor = int(rng.integers(1, 4)), float(rng.choice([0.5, 1, 1.5, 2, 3]))
        cap = min(cap, experts - 1)
        z = random_logits(rng, tokens, experts, ties=i % 5 == 0)
        router = (f"{{type: expert_choice, expert_choice: {{capacity_factor: {min(factor, cap)}, "
                  f"max_experts_per_token: {cap}}}}}")
        cases.append(case(z, router))
        inputs.append((z, cap, min(factor, cap)))
    bound = 0
    for ours, (z, cap, factor) in zip(probe_routers(cases), inputs):
        tokens, experts = z.shape
        capacity = min(tokens, max(1, int(numpy.ceil(tokens * factor / experts))))
        probs = softmax(z.astype(numpy.float64))
        chosen, weights = tables(ours, experts)
        assert chosen.sum(1).max() <= cap
        assert chosen.sum(0).max() <= capacity
        if capacity * experts <= tokens * cap:
            assert (chosen.sum(0) == capacity).all()
        else:
            assert (chosen.sum(1) == cap).all()
        numpy.testing.assert_allclose(weights, probs * chosen, rtol=1e-4, atol=1e-6)
        best, value = best_capped(probs, capacity, cap), float((probs * chosen).sum())
        assert value <= best + 1e-6
        # Where experts cannot all be full the paper's program has no solution, and the exchanged
        # one is farther from integral after as many iterations.
        share = 0.995 if capacity * experts <= tokens * cap else 0.95
        assert value >= share * best, (value, best)
        free = numpy.zeros_like(chosen)
        for e in range(experts):
            free[numpy.argsort(-probs[:, e], kind="stable")[:capacity], e] = True
        bound += free.sum(1).max() > cap
    assert bound > CASES // 4, "the cap hardly ever mattered"


def test_R3_base_against_linear_sum_assignment(probe_routers):
    rng = numpy.random.default_rng(2)
    cases, inputs = [], []
    for i in range(CASES):
        experts, share = int(rng.integers(2, 17)), int(rng.integers(1, 17))
        z = random_logits(rng, experts * share, experts, ties=i % 4 == 0)
        epsilon = float(rng.choice([1e-2, 1e-3, 1e-5]))
        cases.append(case(z, f"{{type: base, base: {{epsilon: {epsilon}}}}}"))
        inputs.append((z.astype(numpy.float64), share, epsilon))
    for ours, (z, share, epsilon) in zip(probe_routers(cases), inputs):
        tokens, experts = z.shape
        expert = ours["experts"][:, 0].numpy()
        assert (numpy.bincount(expert, minlength=experts) == share).all()
        rows, columns = optimize.linear_sum_assignment(numpy.repeat(z, share, axis=1), maximize=True)
        best = z[rows, columns // share].sum()
        value = z[numpy.arange(tokens), expert].sum()
        assert best + 1e-6 >= value >= best - epsilon * tokens * numpy.ptp(z) - 1e-6
        chosen = z[numpy.arange(tokens), expert]
        numpy.testing.assert_allclose(ours["weights"][:, 0].numpy(), 1 / (1 + numpy.exp(-chosen)), rtol=1e-5)


def sinkhorn(z, iterations):
    """The plan by scaling exp(z) itself."""
    kernel = numpy.exp(z)
    row = numpy.ones(len(z))
    for _ in range(iterations):
        column = len(z) / z.shape[1] / (row @ kernel)
        row = 1 / (kernel @ column)
    return row[:, None] * kernel * column


def test_R6_sinkhorn_against_numpy(probe_routers):
    rng = numpy.random.default_rng(3)
    cases, inputs = [], []
    for _ in range(CASES):
        experts, group, groups = int(rng.integers(2, 9)), int(rng.integers(1, 40)), int(rng.integers(1, 4))
        z = random_logits(rng, group * groups, experts, ties=False)
        iterations = int(rng.integers(1, 8))
        cases.append(case(z, f"{{type: sinkhorn, sinkhorn: {{iterations: {iterations}}}}}", groups=groups))
        inputs.append((z.astype(numpy.float64), group, iterations))
    moved = 0
    for ours, (z, group, iterations) in zip(probe_routers(cases), inputs):
        plan = numpy.concatenate([sinkhorn(z[i:i + group], iterations) for i in range(0, len(z), group)])
        expert = ours["experts"][:, 0].numpy()
        chosen, best = plan[numpy.arange(len(z)), expert], plan.max(1)
        numpy.testing.assert_allclose(chosen, best, rtol=1e-4)  # the same but for ties in float32
        probs = softmax(z)[numpy.arange(len(z)), expert]
        numpy.testing.assert_allclose(ours["weights"][:, 0].numpy(), probs, rtol=1e-4, atol=1e-7)
        moved += int((expert != z.argmax(1)).sum())
    assert moved > CASES, "the plan hardly differed from the logits"


def quadratic_transport(scores, gamma):
    """argmax <T, S> - gamma/2 |T|^2 on the transport polytope, by scipy's SLSQP."""
    tokens, experts = scores.shape
    # The last column's sum follows from the others.
    sums = numpy.vstack([numpy.kron(numpy.eye(tokens), numpy.ones(experts)),
                         numpy.kron(numpy.ones(tokens), numpy.eye(experts))[:-1]])
    wanted = numpy.concatenate([numpy.ones(tokens), numpy.full(experts - 1, tokens / experts)])
    solved = optimize.minimize(
        lambda t: gamma / 2 * t @ t - t @ scores.ravel(), numpy.full(tokens * experts, 1 / experts),
        jac=lambda t: gamma * t - scores.ravel(), bounds=[(0, None)] * (tokens * experts), method="SLSQP",
        constraints={"type": "eq", "fun": lambda t: sums @ t - wanted, "jac": lambda _: sums},
        options={"ftol": 1e-12, "maxiter": 500})
    assert solved.success, solved.message
    return solved.x.reshape(tokens, experts)


@pytest.mark.parametrize("limit", ["expert", "token"])
def test_R7_no_limit_is_dense_quadratic_transport(probe_routers, limit):
    rng = numpy.random.default_rng(4)
    cases, inputs = [], []
    for _ in range(12):
        experts, tokens = int(rng.integers(2, 5)), int(rng.integers(3, 11))
        z = random_logits(rng, tokens, experts, ties=False)
        gamma = float(rng.choice([0.2, 0.5, 1]))
        router = (f"{{type: sparse_ot, sparse_ot: {{limit: {limit}, weights: plan, gamma: {gamma}, "
                  "iterations: 4000, lr: 0.002}}")
        cases.append(case(z, router, top_k=experts))
        inputs.append((z, gamma))
    zeros = 0
    for ours, (z, gamma) in zip(probe_routers(cases), inputs):
        _, plan = tables(ours, z.shape[1])
        expected = quadratic_transport(softmax(z.astype(numpy.float64)), gamma)
        numpy.testing.assert_allclose(plan, expected, atol=2e-3)
        zeros += int((expected < 1e-6).sum())
    assert zeros > 20, "no case had a plan with zeros"


@pytest.mark.parametrize("limit", ["expert", "token"])
def test_R7_nonzeros_and_exact_marginal(probe_routers, limit):
    rng = numpy.random.default_rng(5)
    cases, inputs = [], []
    for i in range(CASES):
        experts, tokens = int(rng.integers(2, 9)), int(rng.integers(1, 40))
        top_k = int(rng.integers(1, experts + 1))
        z = random_logits(rng, tokens, experts, ties=i % 3 == 0)
        cases.append(case(z, f"{{type: sparse_ot, sparse_ot: {{limit: {limit}, weights: plan}}}}", top_k=top_k))
        inputs.append((z, top_k))
    for ours, (z, top_k) in zip(probe_routers(cases), inputs):
        tokens, experts = z.shape
        chosen, plan = tables(ours, experts)
        assert (plan[chosen] > 0).all()
        if limit == "expert":
            assert chosen.sum(0).max() <= min(tokens, -(-tokens * top_k // experts))
            numpy.testing.assert_allclose(plan.sum(0), tokens / experts, rtol=1e-5)
        else:
            assert chosen.sum(1).max() <= top_k
            numpy.testing.assert_allclose(plan.sum(1), 1, rtol=1e-5)
