#!/usr/bin/env python3
"""Writes adamw.json beside this file: ten steps of torch.optim.AdamW in float32.

    python tests/golden/make_adamw.py        (with torch 2.13)

Three tensors: a matrix with weight decay, a vector without, and a matrix whose
learning rate is scaled. Gradients come in very different sizes, the learning rate
changes in every step, and steps 4 to 6 scale the gradient as clipping does.
"""
import json
import pathlib

import torch

BETAS, EPS, WEIGHT_DECAY, STEPS = (0.9, 0.999), 1e-8, 0.1, 10
PARTS = [
    {"name": "matrix", "shape": [3, 4], "decay": True, "lr_scale": 1.0},
    {"name": "vector", "shape": [5], "decay": False, "lr_scale": 1.0},
    {"name": "scaled", "shape": [2, 3], "decay": True, "lr_scale": 0.25},
]

generator = torch.Generator().manual_seed(20240607)


def values(tensors):
    return [tensor.detach().flatten().tolist() for tensor in tensors]


weights = [torch.nn.Parameter(torch.randn(p["shape"], generator=generator)) for p in PARTS]
groups = [
    {"params": [w], "weight_decay": WEIGHT_DECAY if p["decay"] else 0.0}
    for w, p in zip(weights, PARTS)
]
optimizer = torch.optim.AdamW(groups, betas=BETAS, eps=EPS, foreach=False)
start, steps = values(weights), []
for step in range(1, STEPS + 1):
    lr, scale = 1e-2 * step / STEPS, 0.375 if 4 <= step <= 6 else 1.0
    gradients = [
        torch.randn(p["shape"], generator=generator)
        * 10.0 ** torch.randint(-4, 3, p["shape"], generator=generator)
        for p in PARTS
    ]
    for weight, gradient, group, part in zip(weights, gradients, optimizer.param_groups, PARTS):
        weight.grad = gradient * scale
        group["lr"] = lr * part["lr_scale"]
    optimizer.step()
    state = [optimizer.state[w] for w in weights]
    steps.append({
        "lr": lr,
        "gradient_scale": scale,
        "gradients": values(gradients),
        "weights": values(weights),
        "exp_avg": values(s["exp_avg"] for s in state),
        "exp_avg_sq": values(s["exp_avg_sq"] for s in state),
    })

golden = {
    "made_by": f"tests/golden/make_adamw.py with torch {torch.__version__}",
    "beta1": BETAS[0], "beta2": BETAS[1], "eps": EPS, "weight_decay": WEIGHT_DECAY,
    "parts": PARTS, "start": start, "steps": steps,
}
path = pathlib.Path(__file__).with_name("adamw.json")
path.write_text(json.dumps(golden, indent=0).replace("\n", " ").replace('"steps": [ {', '"steps": [\n{')
                .replace("}, {", "},\n{") + "\n")
