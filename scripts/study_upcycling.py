#!/usr/bin/env python3
"""Trains a small dense model, then compares three ways to spend more on it.

    scripts/study_upcycling.py [--seeds 1 2 3] [--steps 1600] [--ranks 2]

The dense model (configs/study_upcycling.yaml) is trained for D steps. Then, for up to D steps more, at the same
arithmetic per step, on the same further samples: (a) it goes on as it is, (b) it is upcycled to 16 experts of half its
width, two per token, and goes on, (c) a model like (b) starts from scratch. Writes docs/images/upcycling.svg and prints the
Markdown table of docs/upcycling.md. Needs build/release/switchyard and data/text, which scripts/quickstart.sh leaves
behind.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
RUNS = "runs/study"
ARMS = {"dense": "dense, continued", "upcycled": "upcycled", "scratch": "MoE from scratch"}
COLOURS = {"dense": "#4c4c4c", "upcycled": "#c2410c", "scratch": "#1d4ed8"}
SHARES = (25, 50, 100)


def switchyard(ranks, *arguments):
    command = ["mpirun", "--allow-run-as-root", "--bind-to", "none", "--oversubscribe", "-n", str(ranks),
               "build/release/switchyard", *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def train(ranks, config, name, **settings):
    """Validation losses by step."""
    sets = [word for key, value in {"run.name": name, **settings}.items() for word in ("--set", f"{key}={value}")]
    switchyard(ranks, "train", f"configs/{config}.yaml", "--resume", "never", *sets)
    lines = (ROOT / RUNS / name / "metrics.jsonl").read_text().splitlines()
    return {record["step"]: record["loss"] for record in map(json.loads, lines) if "eval" in record}


def study(seed, steps, ranks):
    """The dense model's loss after D steps, and each arm's by the share of D that it has had since."""
    dense, upcycled = f"upcycling-source-{seed}", f"upcycling-moe-{seed}"
    start = train(ranks, "study_upcycling", dense, **{"run.seed": seed, "train.steps": steps,
                                                      "train.eval_interval": steps})[steps]
    target = ROOT / RUNS / upcycled
    shutil.rmtree(target, ignore_errors=True)
    switchyard(ranks, "upcycle", "--from", f"{RUNS}/{dense}", "--out", target, "--num-experts", 16, "--top-k", 2,
               "--granularity", 2, "--optimizer-state", "carry", "--seed", seed, "--data", "data/study")
    further = {"run.seed": seed + 100, "train.steps": steps, "train.eval_interval": steps // 4,
               "optim.schedule.type": "constant", "optim.lr": 4.0e-3, "checkpoint.interval": 0}
    warm = {"checkpoint.load_optimizer_state": "true", "optim.schedule.warmup_steps": 0}
    losses = {
        "dense": train(ranks, "study_upcycling", f"upcycling-dense-{seed}", **further, **warm,
                       **{"checkpoint.load_from": f"{RUNS}/{dense}"}),
        "upcycled": train(ranks, "study_moe", f"upcycling-upcycled-{seed}", **further, **warm,
                          **{"checkpoint.load_from": target}),
        "scratch": train(ranks, "study_moe", f"upcycling-scratch-{seed}", **further)}
    return start, {arm: {100 * step // steps: loss for step, loss in by_step.items()}
                   for arm, by_step in losses.items()}


def draw(results, path):
    """Loss against the share of D, the mean of the seeds as a line and each seed as a dot."""
    width, height, left, bottom = 640, 360, 60, 310
    values = [loss for start, arms in results.values() for by_share in arms.values() for loss in by_share.values()]
    low, high = min(values) - 0.01, max(values) + 0.01

    def place(share, loss):
        return left + share / 100 * (width - 220), 20 + (high - loss) / (high - low) * (bottom - 20)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
             f'font-size="12"><rect width="100%" height="100%" fill="white"/>']
    for i in range(5):
        loss = low + (high - low) * i / 4
        _, y = place(0, loss)
        parts.append(f'<path d="M{left} {y:.1f}H{width - 160}" stroke="#ddd"/>'
                     f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{loss:.3f}</text>')
    for share in (0, 25, 50, 75, 100):
        x, _ = place(share, low)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{share} %</text>')
    parts.append(f'<text x="{left}" y="{height - 8}">further steps, as a share of the dense model\'s; '
                 f'validation loss in nats per byte</text>')
    for row, (arm, title) in enumerate(ARMS.items()):
        shares = sorted(next(iter(results.values()))[1][arm])
        mean = [(share, statistics.mean(arms[arm][share] for _, arms in results.values())) for share in shares]
        if arm != "scratch":
            mean.insert(0, (0, statistics.mean(start for start, _ in results.values())))
        points = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in mean)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[arm]}" stroke-width="2"/>')
        for _, arms in results.values():
            for share in shares:
                x, y = place(share, arms[arm][share])
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[arm]}"/>')
        parts.append(f'<text x="{width - 150}" y="{40 + 20 * row}" fill="{COLOURS[arm]}">{title}</text>')
    path.write_text("\n".join(parts) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--ranks", type=int, default=2)
    options = parser.parse_args()

    if not (ROOT / "data/study/meta.json").exists():
        switchyard(1, "prepare", "--jsonl", "data/text/default.jsonl", "--out", "data/study")
    results = {}
    print("| seed | dense after D | further | (a) dense | (b) upcycled | (c) from scratch | (b) - (a) |")
    print("|---|---|---|---|---|---|---|")
    for seed in options.seeds:
        results[seed] = start, arms = study(seed, options.steps, options.ranks)
        for share in SHARES:
            dense, upcycled, scratch = (arms[arm][share] for arm in ARMS)
            print(f"| {seed} | {start:.4f} | {share} % | {dense:.4f} | {upcycled:.4f} | {scratch:.4f} "
                  f"| {upcycled - dense:+.4f} |", flush=True)
    draw(results, ROOT / "docs/images/upcycling.svg")


if __name__ == "__main__":
    main()
