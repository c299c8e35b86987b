#!/usr/bin/env python3
"""Mirrors runs/NAME/metrics.jsonl to Weights & Biases; with --follow until Ctrl-C, as the run goes on.
Needs `pip install wandb`, and `wandb login` or WANDB_MODE=offline."""
import argparse, json, pathlib, time

import wandb

flags = argparse.ArgumentParser(description=__doc__)
flags.add_argument("run_dir", type=pathlib.Path)
flags.add_argument("--project", default="switchyard")
flags.add_argument("--follow", action="store_true")
args = flags.parse_args()


def shown(value):  # moe.L.load as bars, one for each expert
    bins = list(range(len(value) + 1)) if isinstance(value, list) else []
    return wandb.Histogram(np_histogram=(value, bins)) if bins else value


path, done, rest = args.run_dir / "metrics.jsonl", 0, b""
with wandb.init(project=args.project, name=args.run_dir.resolve().name) as run:
    try:
        while True:
            if path.stat().st_size < done:  # a resumed run has cut it; W&B drops the steps that it has
                done, rest = 0, b""
            with path.open("rb") as file:
                file.seek(done)
                *whole, rest = (rest + file.read()).split(b"\n")
                done = file.tell()
            for record in map(json.loads, whole):
                prefix = f"eval/{record.pop('eval')}/" if "eval" in record else ""
                run.log({prefix + key: shown(x) for key, x in record.items() if x is not None}, step=record["step"])
            if not args.follow:
                break
            time.sleep(2)
    except KeyboardInterrupt:
        pass
