#!/usr/bin/env python3
"""Step time against experts, ranks, sequence length and sizes; and the cost model that `switchyard plan` reads.

  .venv/bin/python scripts/bench/scale.py --write configs/bench/costs/MACHINE.yaml
  .venv/bin/python scripts/bench/scale.py --from runs/bench/scale.json --write ...    # fits once more, measures nothing

Runs `switchyard bench step` over a grid of configs around W1 (configs/bench/w1.yaml), one at a time and pinned, and
`bench gemm` for the peak; appends each result to --out as it comes. Then fits the coefficients of the cost model
(docs/plan.md, src/model/step_cost.h) by least squares of relative errors, with what `plan` counts as work: none
negative, products no faster than the measured peak. Prints tables in Markdown: every run beside the model, configs that had no part in the fit by themselves.

Cost: about 10 minutes of two cores; --quick, a part of the grid, about 4. Leave the machine alone meanwhile: steps in
which other programs took 5 % of it do not count. Needs SciPy: scripts/install.sh --tests.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

import numpy
from scipy.optimize import lsq_linear

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("SWITCHYARD_BIN", str(ROOT / "build/release/switchyard"))
W1 = ROOT / "configs/bench/w1.yaml"


def case(group, name, ranks=1, threads=1, quick=False, batch=8, **settings):
    """One config. `batch`: sequences of a step; a rank takes its share at once unless told otherwise."""
    settings = {"parallel.expert": ranks, "train.global_batch_size": batch, "train.micro_batch_size": batch // ranks,
                **{key.replace("__", "."): value for key, value in settings.items()}}
    return {"group": group, "name": name, "ranks": ranks, "threads": threads, "quick": quick, "settings": settings}


WIDE = {"model__hidden_size": 512, "model__num_attention_heads": 16}
GRID = [
    *[case("experts", f"{E} experts", moe__num_experts=E, quick=E in (8, 32, 128)) for E in (8, 16, 32, 64, 128)],
    case("ranks", "EP 2", ranks=2, quick=True),
    case("ranks", "EP 1", ranks=2, quick=True, parallel__expert=1),
    case("ranks", "32 experts, EP 2", ranks=2, moe__num_experts=32),
    case("ranks", "64 experts, EP 1", ranks=2, moe__num_experts=64, parallel__expert=1),
    case("sequence length", "128", batch=16, data__sequence_length=128),
    case("sequence length", "512", batch=4, data__sequence_length=512),
    case("sequence length", "1,024", batch=2, quick=True, data__sequence_length=1024),
    case("sizes", "hidden 128, experts of 256", model__hidden_size=128, moe__expert_intermediate_size=256,
         model__num_attention_heads=4),
    case("sizes", "hidden 512, experts of 1,024, 2 layers", batch=4, quick=True, **WIDE,
         moe__expert_intermediate_size=1024, model__num_hidden_layers=2),
    case("sizes", "four micro-batches", quick=True, train__micro_batch_size=2),
    case("sizes", "64 experts, four micro-batches", quick=True, moe__num_experts=64, train__micro_batch_size=2),
    case("sizes", "16 micro-batches of 64 tokens", batch=16, data__sequence_length=64, train__micro_batch_size=1),
    case("not in the fit", "hidden 512, 12 layers, experts of 512", batch=4, quick=True, **WIDE,
         model__num_hidden_layers=12, data__sequence_length=128),
    case("not in the fit", "32 experts, sequence length 512, two micro-batches", batch=4, quick=True,
         moe__num_experts=32, data__sequence_length=512, train__micro_batch_size=2),
    case("not in the fit", "vocabulary 8,192", batch=4, model__vocab_size=8192),
    case("not in the fit", "16 experts, EP 2, sequence length 512", ranks=2, batch=4, moe__num_experts=16,
         data__sequence_length=512),
    case("not in the fit", "W1 on two threads", threads=2),
]
CHECK = "not in the fit"
PRECISIONS = "fp32", "bf16"
PEAK_SIZE = 4096  # of the square product


def environment(threads):
    return dict(os.environ, OMP_NUM_THREADS=str(threads), OMPI_ALLOW_RUN_AS_ROOT="1",
                OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


def answer(command, threads=1):
    """The JSON object that a command prints."""
    done = subprocess.run([str(word) for word in command], env=environment(threads), text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def flags(what, precision):
    settings = {**what["settings"], "train.precision": precision, "train.threads": what["threads"]}
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def on_cores(count):
    """Runs what follows on the first processors that this process may use."""
    return ["taskset", "-c", ",".join(map(str, sorted(os.sched_getaffinity(0))[:count]))]


def pinned(what):
    if what["ranks"] > 1:
        return ["mpirun", "-n", what["ranks"], "--oversubscribe", "--bind-to", "core:overload-allowed"]
    return on_cores(what["threads"])


def measure(what, precision, args):
    row = answer([*pinned(what), BINARY, "bench", "step", "--json", "--config", W1, *flags(what, precision),
                  "--warmup", 2, "--rounds", args.rounds, "--limit", args.limit, "--gemm-size", 256], what["threads"])
    kept = ("step_s", "tok_s", "tok_s_min", "tok_s_max", "quiet", "steps", "max_load", "max_rank_load", "tokens",
            "load_average")
    return {**what, "precision": precision, **{key: row[key] for key in kept}}


def measured(args):
    out = pathlib.Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    peak = answer([*on_cores(1), BINARY, "bench", "gemm", "--json", "--threads", 1, "--warmup", 1,
                   "--rounds", 3, "--limit", args.limit, "--gemm-size", PEAK_SIZE])["peak_gflops"]
    rows = [{"group": "peak", **peak}]
    with out.open("w") as f:
        print(json.dumps(rows[0]), file=f, flush=True)
        for what in GRID:
            if args.quick and not what["quick"]:
                continue
            for precision in PRECISIONS:
                rows.append(measure(what, precision, args))
                print(json.dumps(rows[-1]), file=f, flush=True)
                print(f"{rows[-1]['tok_s']:9.0f} tokens/s, {rows[-1]['quiet']} quiet of {rows[-1]['steps']}, "
                      f"{precision}, {what['group']}: {what['name']}", file=sys.stderr, flush=True)
    return rows


def plan(row, costs):
    return answer([BINARY, "plan", W1, *flags(row, row["precision"]), "--ranks", row["ranks"], "--cost-model", costs,
                   "--imbalance", max(1.0, row["max_rank_load"]), "--json"])["time"]


# The coefficients: those of each precision, and those of all. Units as in src/config/cost_model.h.
THREAD = ("flop", "score", "activation_byte", "weight_byte", "layer")
SHARED = ("optimizer_byte", "message", "exchange_byte", "reduction_byte")


def units(row, work):
    """{coefficient: units of it in the row's step}, as step_cost adds them up."""
    wait = row["max_rank_load"] - 1 if row["settings"]["parallel.expert"] > 1 else 0
    thread = {"flop": work["dense_flops"] + (1 + wait) * work["expert_flops"], "score": work["scores"],
              "activation_byte": work["activation_bytes"], "weight_byte": work["weight_bytes"],
              "layer": work["layers"]}
    shared = {"optimizer_byte": work["optimizer_bytes"],
              "message": work["exchange_messages"] + work["reduction_messages"],
              "exchange_byte": work["exchange_bytes"], "reduction_byte": work["reduction_bytes"]}
    return {**{f"{row['precision']}.{name}": value for name, value in thread.items()}, **shared}


def fit(rows, peak):
    """{coefficient: seconds}. Noise moves time between what grows together, products and the passes beside them:
    what the peak rules out is ruled out here."""
    names = [f"{p}.{name}" for p in PRECISIONS for name in THREAD] + list(SHARED)
    matrix = numpy.array([[units(row, row["work"]).get(name, 0.0) / row["step_s"] for name in names] for row in rows])
    scale = numpy.maximum(matrix.max(axis=0), 1e-300)  # columns alike, for the arithmetic
    least = numpy.array([1e-9 / peak[name.split(".")[0]] if name.endswith(".flop") else 0.0 for name in names])
    found = lsq_linear(matrix / scale, numpy.ones(len(rows)), bounds=(least * scale, numpy.inf),
                       method="bvls").x
    return dict(zip(names, found / scale))


def rate(seconds):
    return f"{1e-9 / seconds:.4g}" if seconds > 0 else "null"


def costs_yaml(seconds, peak, fitted, args):
    """The file that `plan --cost-model` reads."""
    cores = os.cpu_count()
    lines = ["# What a step's work costs on this class of machine, for `switchyard plan --cost-model`;",
             "# docs/plan.md says what each key means. null: too small to be seen. Written, from",
             "# measurements on an otherwise idle machine, by",
             f"#   .venv/bin/python scripts/bench/scale.py --write {args.write or 'FILE'}",
             f"machine: \"{machine()}\"", f"fitted: \"{fitted}\"",
             f"cores: {cores}  # of a host, shared by its ranks where train.threads is auto",
             f"ranks_per_host: {cores}"]
    for p in PRECISIONS:
        def of(name):
            return seconds.get(f"{p}.{name}", 0)
        lines += [f"{p}:  # of one thread", f"  peak_gflops: {peak[p]:.4g}", f"  products_gflops: {rate(of('flop'))}",
                  f"  scores_giga_per_second: {rate(of('score'))}",
                  f"  activations_gbytes_per_second: {rate(of('activation_byte'))}",
                  f"  weights_gbytes_per_second: {rate(of('weight_byte'))}", f"  layer_us: {1e6 * of('layer'):.4g}"]
    lines += [f"optimizer_gbytes_per_second: {rate(seconds['optimizer_byte'])}",
              "host:  # between ranks of a host", f"  latency_us: {1e6 * seconds['message']:.4g}",
              f"  exchange_gbytes_per_second: {rate(seconds['exchange_byte'])}",
              f"  reduction_gbytes_per_second: {rate(seconds['reduction_byte'])}",
              "# Between hosts: stated, not measured, for projections. One rank's share.",
              f"network: {{latency_us: {args.network_us:g}, gbytes_per_second: {args.network_gbytes:g}}}"]
    return "\n".join(lines) + "\n"


def machine():
    name = platform.processor() or "unknown processor"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
    bf16 = "avx512_bf16" in pathlib.Path("/proc/cpuinfo").read_text()
    return f"{name}, {os.cpu_count()} cores" + (" with AVX512-BF16" if bf16 else "")


def print_tables(rows):
    for group in dict.fromkeys(row["group"] for row in rows):
        print(f"\n| {group} | ranks x threads | precision | tokens/s (min to max) | step, ms | model, ms | off |\n"
              "|---|---|---|---|---|---|---|")
        for row in rows:
            if row["group"] == group:
                print(f"| {row['name']} | {row['ranks']} x {row['threads']} | {row['precision']} | {row['tok_s']:,.0f} "
                      f"({row['tok_s_min']:,.0f} to {row['tok_s_max']:,.0f}) | {1e3 * row['step_s']:.1f} | "
                      f"{1e3 * row['model_s']:.1f} | {100 * error(row):+.1f} % |")


def error(row):
    return row["model_s"] / row["step_s"] - 1


def spread(rows):
    off = [100 * abs(error(row)) for row in rows]
    return f"{len(rows)} runs " + (f"{statistics.mean(off):.1f} % off (at most {max(off):.1f})" if off else "")


def write_costs(rows, peak, target, args):
    """Fits, writes the file, and gives each row `model_s`, the step that the program predicts with it."""
    draft = target.with_name(target.name + ".new")

    def write(seconds, fitted):
        draft.write_text(costs_yaml(seconds, peak, fitted, args))

    write({name: 1e-9 for name in SHARED}, "not yet")  # work does not depend on costs: any will do to have it counted
    for row in rows:
        row["work"] = plan(row, draft)["work"]
    used, others = [row for row in rows if row["group"] != CHECK], [row for row in rows if row["group"] == CHECK]
    seconds = fit(used, peak)
    write(seconds, "just now")
    for row in rows:
        row["model_s"] = plan(row, draft)["step_s"]
    fitted = f"{datetime.date.today()}: {spread(used)}; not in the fit: {spread(others)}"
    write(seconds, fitted)
    draft.replace(target)
    return fitted


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="a part of the grid, fewer steps")
    p.add_argument("--rounds", type=int, help="quiet steps to time in each run: 7, or 5")
    p.add_argument("--limit", type=float, help="seconds after which a run ends with fewer: 8, or 4")
    p.add_argument("--out", default="runs/bench/scale.json", help="measurements, one JSON object a line")
    p.add_argument("--from", dest="source", help="measurements of an earlier call, in place of new ones")
    p.add_argument("--write", help="the cost model's file; left out: beside the measurements")
    p.add_argument("--network-us", type=float, default=5, help="stated, for projections: a message between hosts")
    p.add_argument("--network-gbytes", type=float, default=6.25, help="stated: GB/s of one rank to other hosts")
    args = p.parse_args()
    args.rounds = args.rounds or (5 if args.quick else 7)
    args.limit = args.limit if args.limit is not None else (4 if args.quick else 8)

    if not pathlib.Path(BINARY).exists():
        sys.exit(f"{BINARY} is not there; scripts/build.sh builds it")
    if args.source:
        rows = [json.loads(line) for line in pathlib.Path(args.source).read_text().splitlines()]
    else:
        rows = measured(args)
    peak, rows = rows[0], rows[1:]
    target = pathlib.Path(args.write or f"{args.source or args.out}.costs.yaml")
    target.parent.mkdir(parents=True, exist_ok=True)
    fitted = write_costs(rows, peak, target, args)
    print_tables(rows)
    print(f"\nFitted {fitted}. In {target}:\n\n{target.read_text()}")


if __name__ == "__main__":
    main()
