"""Run folders as `switchyard train` leaves them, of any length, without training."""

import json
import math
import random

# What a token, a path or a name may try on a page.
HOSTILE = ["</script><script>document.title='owned'</script>", "<img src=x onerror=alert(1)>", "&lt;b&gt;&amp;",
           "\u2028\u2029", "<!--", "{{data}}", '"\\', "\x07\u202e", " the", "\n", "caf\u00e9"]


def shares(layer, step, experts, generator, dead=()):
    """Near even; one hot expert, and those of `dead` without a token from step 100 on."""
    weights = [1 + 0.25 * math.sin(expert + layer) + 0.08 * generator.random() for expert in range(experts)]
    weights[layer % experts] *= 1.9 if step < 150 else 1.2
    if step >= 100:
        for expert in dead:
            weights[expert] = 0.0
    total = sum(weights)
    return [weight / total for weight in weights]


def step_record(step, layers, experts, generator, old=False, dead=None):
    loss = 8.3 * math.exp(-step / 90) + 3.2 + 0.05 * generator.random()
    record = {
        "step": step, "tokens": 2048 * step, "loss": loss, "aux_loss": 1 + 0.3 / step, "z_loss": 0.4,
        "grad_norm": 1 + 3 / step, "grad_norm_dense": 0.8 + 2 / step, "grad_norm_expert": 0.6 + 1 / step,
        "lr": 2e-3 * min(1, step / 40), "step_ms": 400 + 20 * generator.random(), "tokens_per_second": 5000.0 + step,
        "mfu": 0.31, "data_ms": 4.0, "forward_ms": 120.0, "backward_ms": 200.0, "comm_ms": 45.0, "optimizer_ms": 50.0,
        "checkpoint_ms": 2.0, "peak_rss_bytes": 900_000_000, "skipped_steps": 0}
    if not old:
        record |= {"loss_z": 5.5 if step == 200 else 0.2 if step > 20 else None, "grad_norm_z": 0.1,
                   "slowest_rank": step // 10 % 2, "slowest_rank_ms": 380.0 + step % 7, "typical_rank_ms": 360.0,
                   "exchange_bytes": 33_554_432}
    for layer in layers:
        load = shares(layer, step, experts, generator, (dead or {}).get(layer, ()))
        record |= {f"moe.{layer}.max_load": max(load) * experts, f"moe.{layer}.dropped": 0.01 * (layer + 1),
                   f"moe.{layer}.entropy": math.log(experts) * (0.9 - 0.1 * layer / (1 + layer)), f"moe.{layer}.load": load}
        if not old:
            record[f"moe.{layer}.dead"] = load.count(0.0)
    return record


def evaluation(step, loss):
    return {"step": step, "eval": "val", "loss": loss, "perplexity": math.exp(loss), "bits_per_byte": loss * 0.41,
            "tokens": 16384}


def run_json(name, layers, experts, steps, ranks):
    return {
        "switchyard": "0.1.0", "name": name, "steps": steps, "parameters_total": 17_334_784,
        "parameters_active": 7_897_600, "flops_per_token": 5.1e7, "peak_flops": 2.4e11, "ranks": ranks, "expert": ranks,
        "zero": 1, "precision": "bf16", "moe_layers": layers, "num_experts": experts, "top_k": 2,
        "started": [{"time": "2026-11-27T23:14:13Z", "step": 0, "world": ranks, "hosts": ["alpha"] * ranks, "resumed_from": ""},
                    {"time": "2026-11-27T23:19:40Z", "step": 100, "world": ranks, "hosts": ["alpha"] * ranks,
                     "resumed_from": "checkpoints/step-00000100"}],
        "planned_bytes_per_rank": {"parameters": 180_000_000, "gradients": 180_000_000, "optimizer": 170_000_000,
                                   "activations": 150_000_000, "exchange": 20_000_000, "program": 150_000_000,
                                   "total": 850_000_000},
        "data": [{"name": "quickstart", "path": "data/quickstart", "tokens": 2_071_552}]}


def routing_json(layers, experts, steps, ranks, texts):
    def top(expert):
        return [{"id": i, "text": text, "copies": 120 - 7 * i, "share": round((expert + 2) / (experts + 3 + i), 4)}
                for i, text in enumerate(texts[:10])]

    return {
        "step": steps, "ranks": ranks,
        "exchange": {"ranks_per_cell": 1, "rows": [[1000 + 100 * r - 90 * c for c in range(ranks)] for r in range(ranks)]},
        "top_tokens": {"split": "val", "tokens": 16384, "layers": [
            {"layer": layer, "experts": [{"copies": 4000 - 100 * expert, "top": top(expert)} for expert in range(experts)]}
            for layer in layers]},
        "router_logits": {"layers": [
            {"layer": layer, "edges": [i / 4 - 4 for i in range(33)], "counts": [round(1e4 * math.exp(-(i - 16) ** 2 / 40))
                                                                              for i in range(32)]} for layer in layers]}}


CONFIG = """run: {{name: {name}, dir: runs, seed: 1234}}
data: {{path: data/quickstart, sequence_length: 128}}
optim: {{lr: {lr}, betas: [0.9, 0.95], lr_scale: {{"*.gate.*": 0.1}}}}
moe:
  num_experts: {experts}
  balance: [{{type: switch, coef: 0.01}}, {{type: device, coef: 0.1}}]
"""


def write_run(folder, layers=(0, 1, 2, 3), experts=8, steps=300, interval=10, ranks=2, lr=0.002, old=False, dead=None,
              texts=(" the", ",", " of", "\n", " and", " to", "ing", ".", " a", " her"), seed=1):
    """A run of a MoE, or of a dense model where `layers` is empty; `old`: of before run.json and routing.json."""
    generator = random.Random(seed)
    layers = list(layers)
    folder.mkdir(parents=True)
    with open(folder / "metrics.jsonl", "w") as metrics:
        for step in [1, *range(interval, steps + 1, interval)]:
            metrics.write(json.dumps(step_record(step, layers, experts, generator, old, dead)) + "\n")
            if step % 100 == 0:
                metrics.write(json.dumps(evaluation(step, 8.3 * math.exp(-step / 90) + 3.4)) + "\n")
    (folder / "config.yaml").write_text(CONFIG.format(name=folder.name, lr=lr, experts=experts))
    if not old:
        (folder / "run.json").write_text(json.dumps(run_json(folder.name, layers, experts, steps, ranks)))
        if layers:
            (folder / "routing.json").write_text(json.dumps(routing_json(layers, experts, steps, ranks, list(texts))))
    return folder


def write_long_run(folder, records=100_000, layers=12, experts=64, interval=1):
    """Many records quickly: a few blocks of loads, again and again."""
    generator = random.Random(7)
    folder.mkdir(parents=True)
    blocks = []
    for _ in range(16):
        parts = []
        for layer in range(layers):
            load = [round(share, 5) for share in shares(layer, 1000, experts, generator)]
            parts.append(f'"moe.{layer}.max_load":1.31,"moe.{layer}.dropped":0.0,"moe.{layer}.entropy":3.9,'
                         f'"moe.{layer}.load":{json.dumps(load, separators=(",", ":"))}')
        blocks.append(",".join(parts))
    with open(folder / "metrics.jsonl", "w") as metrics:
        for i in range(1, records + 1):
            head = json.dumps({k: v for k, v in step_record(i, [], 0, generator).items() if k != "step"})[1:-1]
            # One step stands out: no reduction may lose it.
            if i == records // 3:
                head = head.replace('"loss": ', '"loss": 9', 1)
            metrics.write(f'{{"step": {i * interval},{head},{blocks[i % 16]}}}\n')
    return folder
