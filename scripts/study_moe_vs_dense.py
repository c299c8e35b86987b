#!/usr/bin/env python3
"""Trains configs/study_moe.yaml and configs/study_dense.yaml and compares them.

    scripts/study_moe_vs_dense.py [--seeds 1 2 3] [--ranks 2]

Same text, tokens, steps and active parameters; only the number of experts differs.
Prints a Markdown table of validation losses, the one in docs/moe_vs_dense.md. Needs
build/release/switchyard and data/text, which scripts/quickstart.sh leaves behind.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIDES = ("dense", "moe")


def train(side, seed, ranks):
    """The validation loss after the last step, and the sizes that the run announced."""
    name = f"study-{side}-{seed}"
    command = ["mpirun", "--allow-run-as-root", "--bind-to", "none", "--oversubscribe", "-n", str(ranks),
               "build/release/switchyard", "train", f"configs/study_{side}.yaml", "--resume", "never",
               "--set", f"run.name={name}", "--set", f"run.seed={seed}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    sizes = re.search(r"([\d.]+M) parameters, ([\d.]+M) active", done.stderr + done.stdout)
    lines = (ROOT / "runs/study" / name / "metrics.jsonl").read_text().splitlines()
    evaluations = [record for record in map(json.loads, lines) if "eval" in record]
    return evaluations[-1], sizes.groups()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--ranks", type=int, default=2)
    options = parser.parse_args()

    if not (ROOT / "data/study/meta.json").exists():
        subprocess.run(["build/release/switchyard", "prepare", "--jsonl", "data/text/default.jsonl",
                        "--out", "data/study"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    losses = {side: [] for side in SIDES}
    print("| seed | model | parameters | active | validation loss | bits per byte |")
    print("|---|---|---|---|---|---|")
    for seed in options.seeds:
        for side in SIDES:
            evaluation, (total, active) = train(side, seed, options.ranks)
            losses[side].append(evaluation["loss"])
            print(f"| {seed} | {side} | {total} | {active} | {evaluation['loss']:.4f} "
                  f"| {evaluation['bits_per_byte']:.4f} |", flush=True)
    gains = [dense - moe for dense, moe in zip(losses["dense"], losses["moe"])]
    print(f"\nMoE is lower by {statistics.mean(gains):.4f} nats per token on average "
          f"(least {min(gains):.4f}, most {max(gains):.4f}), over {len(gains)} seeds.")


if __name__ == "__main__":
    main()
