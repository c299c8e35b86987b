#!/usr/bin/env python3
"""Trains configs/compare_routers.yaml with every router and compares them.

    scripts/compare_routers.py [--ranks 2] [--seed 1234] [--only NAME...]

Same text, seed, steps and active parameters. Prints the Markdown table of docs/routers.md:
validation loss, how unevenly the experts are loaded (MaxVio, the mean over layers and the
last quarter of the steps), dropped choices and speed. Needs build/release/switchyard and
data/text, which scripts/quickstart.sh leaves behind.
"""

import argparse
import json
import pathlib
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
ONE = {"moe.top_k": 1, "moe.expert_intermediate_size": 128}
AHEAD = {"moe.allow_noncausal": "true"}
TIGHT = {"moe.capacity": "{factor: 1.25}"}


def router(text):
    return {"moe.router": "{" + text + "}"}


def balance(text):
    return {"moe.balance": "{" + text + "}"}


# Each with the balance that its paper gives it.
RUNS = {
    "topk, no balance": router("type: topk"),
    "topk (Mixtral)": router("type: topk") | balance("type: hf, coef: 0.02"),
    "topk (DeepSeekMoE)": router("type: topk, normalize: false") | balance("type: sequence, coef: 0.01"),
    "topk, sigmoid (sigma-MoE)": router("type: topk, score: sigmoid, normalize: false, expert_dropout: 0.05")
    | balance("type: entropy, coef: 0.001"),
    "topk, noise (V-MoE)": router("type: topk, normalize: false, noise_std: 0.125")
    | {"moe.balance": "[{type: importance, coef: 0.005}, {type: load, coef: 0.005}]"},
    "topk, normalised logits (Skywork)": router("type: topk, logit_normalization: 1")
    | balance("type: topk, coef: 0.01, adaptive: {rate: 0.2}") | TIGHT,
    "topk, bias (loss-free)": router("type: topk, score: sigmoid, selection_bias: true"),
    "group_limited (DeepSeek-V2)": router("type: group_limited, n_group: 4, topk_group: 2, group_score: max, "
                                          "normalize: false")
    | {"moe.balance": "[{type: expert, coef: 0.003}, {type: device, coef: 0.05}, {type: communication, coef: 0.02}]"},
    "switch": ONE | TIGHT | router("type: switch, jitter_eps: 0.01") | balance("type: switch, coef: 0.01"),
    "gshard": AHEAD | TIGHT | router("type: gshard") | balance("type: gshard, coef: 0.01"),
    "noisy_topk": router("type: noisy_topk")
    | {"moe.balance": "[{type: importance, coef: 0.1}, {type: load, coef: 0.1}]"},
    "expert_choice": AHEAD | router("type: expert_choice"),
    "base": AHEAD | ONE | {"moe.expert_init": "zero_output"} | router("type: base"),
    "sinkhorn (S-BASE)": AHEAD | ONE | router("type: sinkhorn"),
    "sparse_ot": AHEAD | router("type: sparse_ot"),
    "reinforce (RL-R)": ONE | router("type: reinforce") | balance("type: switch, coef: 0.01"),
    "hash, random": ONE | router("type: hash, hash: {method: random}"),
    "hash, balanced": ONE | router("type: hash, hash: {method: balanced}"),
    "dselect_k": router("type: dselect_k"),
    "attention (Yuan)": router("type: attention"),
    "recurrent (RMoE)": router("type: recurrent, recurrent: {hidden_size: 32}") | balance("type: hf, coef: 0.001"),
    "sparsemixer (GRIN)": router("type: sparsemixer") | balance("type: topk, coef: 0.01, scope: global"),
    "dense_training (DS-MoE)": router("type: dense_training") | balance("type: mutual_information, coef: 0.0005"),
}


def train(name, settings, options):
    """The steps and the last evaluation that a run has logged."""
    folder = "".join(c if c.isalnum() else "-" for c in name)
    sets = {"run.name": folder, "run.seed": options.seed, **settings}
    command = ["mpirun", "--allow-run-as-root", "--bind-to", "none", "--oversubscribe", "-n", str(options.ranks),
               "build/release/switchyard", "train", "configs/compare_routers.yaml", "--resume", "never"]
    for key, value in sets.items():
        command += ["--set", f"{key}={value}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{name}: exit code {done.returncode}\n{done.stderr}")
    lines = (ROOT / "runs/routers" / folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [r for r in records if "eval" not in r], [r for r in records if "eval" in r][-1]


def mean_over_layers(steps, field):
    return statistics.mean(value for step in steps for key, value in step.items() if key.endswith("." + field))


def row(name, settings, options):
    steps, evaluation = train(name, settings, options)
    late = steps[-len(steps) // 4:]
    return (f"| {name} | {evaluation['loss']:.4f} | {mean_over_layers(late, 'max_load') - 1:.2f} "
            f"| {100 * mean_over_layers(late, 'dropped'):.1f} % "
            f"| {statistics.median(step['tokens_per_second'] for step in steps):,.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="NAME")
    options = parser.parse_args()

    if not (ROOT / "data/study/meta.json").exists():
        subprocess.run(["build/release/switchyard", "prepare", "--jsonl", "data/text/default.jsonl",
                        "--out", "data/study"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    print("| router | validation loss | MaxVio | dropped | tokens/s |")
    print("|---|---|---|---|---|")
    for name in options.only:
        print(row(name, RUNS[name], options), flush=True)


if __name__ == "__main__":
    main()
