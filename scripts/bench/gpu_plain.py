#!/usr/bin/env python3
"""An MoE layer as an expert user writes it in plain PyTorch, on one GPU: tokens sorted by expert, two grouped_mm, index_add.

    scripts/bench/gpu_plain.py [--experts 8 16 32 64 128] [--tokens 8192] [--hidden 2048] [--width 1024] [--top-k 2]
    scripts/bench/gpu_plain.py --check --device cpu

Times forward and backward in bf16, router in fp32 and its losses included, in turn with the dense network of
top_k * width on the same tokens (A B A B), as `switchyard bench moe-layer` does, from one synchronisation to the next.
Prints one JSON object with the medians. --check compares the layer with a loop over experts in fp32 instead.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F


def swiglu(h):
    gate, up = h.chunk(2, -1)
    return F.silu(gate) * up


class Layer(torch.nn.Module):
    def __init__(self, hidden, width, experts, top_k, **of):
        super().__init__()
        self.top_k = top_k
        self.router = torch.nn.Parameter(torch.randn(experts, hidden, **of).float() * 0.02)
        self.w1 = torch.nn.Parameter(torch.randn(experts, hidden, 2 * width, **of) * 0.02)
        self.w2 = torch.nn.Parameter(torch.randn(experts, width, hidden, **of) * 0.02)

    def route(self, x):
        logits = F.linear(x.float(), self.router)
        probs = logits.softmax(-1)
        gates, index = probs.topk(self.top_k, -1)
        experts = len(self.router)
        counts = torch.zeros(experts, dtype=torch.int64, device=x.device).scatter_add_(
            0, index.flatten(), torch.ones_like(index.flatten()))
        balance = experts * (counts / index.numel() * probs.mean(0)).sum()
        losses = 0.01 * balance + 0.001 * logits.logsumexp(-1).square().mean()
        return gates / gates.sum(-1, keepdim=True), index, counts, losses

    def forward(self, x):
        gates, index, counts, losses = self.route(x)
        order = index.flatten().argsort(stable=True)
        token = order // self.top_k
        ends = counts.cumsum(0).to(torch.int32)
        h = F.grouped_mm(x[token], self.w1, offs=ends)
        y = F.grouped_mm(swiglu(h), self.w2, offs=ends) * gates.flatten()[order].unsqueeze(-1).to(x.dtype)
        return torch.zeros_like(x).index_add(0, token, y), losses

    def looped(self, x):
        gates, index, _, losses = self.route(x)
        y = torch.zeros_like(x)
        for expert, (w1, w2) in enumerate(zip(self.w1, self.w2)):
            token, choice = (index == expert).nonzero(as_tuple=True)
            y = y.index_add(0, token, swiglu(x[token] @ w1) @ w2 * gates[token, choice].unsqueeze(-1))
        return y, losses


def check(device):
    """Output and gradients of both ways, in fp32."""
    torch.manual_seed(1)
    layer = Layer(32, 48, 4, 2, device=device)
    x, dy = torch.randn(2, 64, 32, device=device).unbind(0)
    found = []
    for way in (layer.forward, layer.looped):
        layer.zero_grad()
        own = x.clone().requires_grad_()
        y, losses = way(own)
        ((y * dy).sum() + losses).backward()
        found.append([y, own.grad, *(p.grad.clone() for p in layer.parameters())])
    for name, a, b in zip(("y", "dx", "drouter", "dw1", "dw2"), *found):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=lambda text: f"{name}: {text}")
    print("the layer equals the loop over experts")


def measure(args, experts):
    of = dict(device=args.device, dtype=torch.bfloat16)
    synchronize = torch.cuda.synchronize if args.device == "cuda" else lambda: None
    layer = Layer(args.hidden, args.width, experts, args.top_k, **of)
    w1 = torch.nn.Parameter(torch.randn(args.hidden, 2 * args.top_k * args.width, **of) * 0.02)
    w2 = torch.nn.Parameter(torch.randn(args.top_k * args.width, args.hidden, **of) * 0.02)
    x = torch.randn(args.tokens, args.hidden, **of).requires_grad_()
    dy = torch.randn(args.tokens, args.hidden, **of)

    def moe():
        y, losses = layer(x)
        torch.autograd.backward((y, losses), (dy, torch.ones_like(losses)))

    def dense():
        (swiglu(x @ w1) @ w2).backward(dy)

    seconds = {"moe": [], "dense": []}
    for round_ in range(args.warmup + args.rounds):
        for name, body in (("moe", moe), ("dense", dense)):
            for tensor in (x, w1, w2, *layer.parameters()):
                tensor.grad = None
            synchronize()
            start = time.perf_counter()
            body()
            synchronize()
            if round_ >= args.warmup:
                seconds[name].append(time.perf_counter() - start)
    moe_s, dense_s = map(statistics.median, (seconds["moe"], seconds["dense"]))
    return {"experts": experts, "tokens": args.tokens, "precision": "bf16", "moe_s": moe_s, "dense_s": dense_s,
            "ratio": moe_s / dense_s}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options.add_argument("--experts", type=int, nargs="+", default=[8, 16, 32, 64, 128])
    for name, value in (("tokens", 8192), ("hidden", 2048), ("width", 1024), ("top-k", 2), ("rounds", 20), ("warmup", 5)):
        options.add_argument(f"--{name}", type=int, default=value)
    options.add_argument("--check", action="store_true")
    args = options.parse_args()
    if args.check:
        return check(args.device)
    torch.manual_seed(1)
    print(json.dumps({"bench": "plain PyTorch", "torch": torch.__version__,
                      "results": [measure(args, experts) for experts in args.experts]}))


if __name__ == "__main__":
    main()
