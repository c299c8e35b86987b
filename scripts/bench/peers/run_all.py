"""Runs Switchyard and the peers one at a time, interleaved (A B C ... A B C ...), each under a lock file.

run_all.py [--rounds 2] [--workload W1 W3] [--precision fp32 bf16] [--ranks 1 2] [--only switchyard hf plain]
           [--keep 0.8]
Results are appended to $PEERS_OUT; a run that fails leaves its last lines in $PEERS_OUT.errors.
--keep 0.8: a peer's form that failed in the first round, or had less than 0.8 of the tokens/s of the fastest with as
many processes, is left out of the rounds after it: what many rounds are for is the fastest.
Runs of several ranks are pinned, a share of the processors each.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
TITAN = os.path.join(ROOT, ".venv-peers", "torchtitan")
ALONE = "--alone"  # one of the two ranks with half of the batch: what weak scaling starts from
FAST = ["--unit", "32", "--matmul", "onednn"]
# (name, ranks, script, arguments, workloads it makes sense for)
RUNS = [
    ("switchyard", 1, "", [], ""),
    ("hf", 1, "peer_hf.py", ["--variant", "eager"], ""),
    ("hf", 1, "peer_hf.py", ["--variant", "grouped_mm"], ""),
    ("deepspeed", 1, "peer_deepspeed.py", ["--variant", "zero0"], ""),
    ("tutel", 1, "peer_tutel.py", [], ""),
    ("torchtitan", 1, "peer_torchtitan.py", [], ""),
    ("plain", 1, "peer_plain.py", ["--variant", "loop"], ""),
    ("plain", 1, "peer_plain.py", ["--variant", "compiled"] + FAST, ""),
    ("plain", 1, "peer_plain.py", ["--variant", "padded"], "W3"),
    ("switchyard", 2, "", [], ""),
    ("hf", 2, "peer_hf.py", ["--variant", "grouped_mm"], ""),
    ("hf", 2, "peer_hf.py", ["--variant", "ep"], ""),
    ("deepspeed", 2, "peer_deepspeed.py", ["--variant", "zero1"], ""),
    ("deepspeed", 2, "peer_deepspeed.py", ["--variant", "zero2"], "W1"),
    ("tutel", 2, "peer_tutel.py", [], ""),
    ("plain", 2, "peer_plain.py", ["--variant", "loop"], ""),
    ("plain", 2, "peer_plain.py", ["--variant", "compiled"] + FAST, ""),
    ("plain", 2, "peer_plain.py", ["--variant", "compiled", "--dp"] + FAST, ""),
    ("switchyard", 2, "", ["--balanced"], ""),
    ("switchyard", 1, "", [ALONE], ""),
]


def ours(ranks, args, workload, precision, limit):
    """The same step by switchyard; its one micro-batch is a rank's whole share, as the peers'."""
    batch, threads = {"W1": 8, "W2": 4, "W3": 8}[workload], "2" if ranks == 1 else "1"
    if args == [ALONE]:
        batch, threads = batch // 2, "1"
        args = ["--set", f"train.global_batch_size={batch}", "--note", "alone"]
    command = [os.path.join(ROOT, "build/release/switchyard"), "bench", "step", "--json", *args,
               "--config", os.path.join(ROOT, f"configs/bench/{workload.lower()}.yaml"),
               "--set", f"train.precision={precision}", "--set", f"parallel.expert={ranks}",
               "--set", f"train.micro_batch_size={batch // ranks}",
               "--threads", threads, "--limit", limit]
    if ranks > 1:
        command = ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "core:overload-allowed", *command]
    return command


def peer(ranks, script, args, workload, precision, limit):
    command = ["bash", "launch.sh", str(ranks)] if ranks > 1 or script == "peer_deepspeed.py" else [sys.executable]
    return command + [script, *args, "--workload", workload, "--precision", precision, "--limit", limit,
                      "--threads", "2" if ranks == 1 else "1"]


def environment(name, ranks):
    env = dict(os.environ, PYTHON=sys.executable, DS_ACCELERATOR="cpu", OMP_NUM_THREADS="2" if ranks == 1 else "1",
               OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    if env.get("PEERS_PRELOAD") and name != "switchyard":
        env["LD_PRELOAD"] = env["PEERS_PRELOAD"]
    if name == "torchtitan":
        env["PYTHONPATH"] = TITAN
    return env


def installed(name):
    """Tutel and torchtitan may not be here."""
    module = {"tutel": "tutel", "torchtitan": "torchtitan", "hf": "transformers", "deepspeed": "deepspeed"}.get(name)
    if module is None:
        return True
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{module}') is None)"
    return subprocess.run([sys.executable, "-c", code], env=environment(name, 1)).returncode == 0


def result_line(text):
    """The line of a result, or None."""
    return next((line for line in text.splitlines() if line.startswith("{") and '"peer"' in line), None)


def told(line, returncode):
    if line is None:
        return f"failed ({returncode})"
    return f"{json.loads(line)['tok_s']:9.0f} tokens/s, {json.loads(line)['quiet']} quiet"


def keep_up(runs, rates, share):
    """Ours, and of the peers those with `share` of the fastest one's rate; rates: of each of `runs`, 0 if it failed."""
    best = {}
    for (name, ranks, *_), rate in zip(runs, rates):
        if name != "switchyard":
            best[ranks] = max(best.get(ranks, 0), rate)
    return [run for run, rate in zip(runs, rates)
            if run[0] == "switchyard" or (rate > 0 and rate >= share * best[run[1]])]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--workload", nargs="+", default=["W1", "W3", "W2"])
    p.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    p.add_argument("--ranks", nargs="+", type=int, default=[1, 2])
    p.add_argument("--only", nargs="+", default=[])
    p.add_argument("--limit", default="60", help="seconds of a run's timed part")
    p.add_argument("--keep", type=float, default=0, metavar="SHARE", help="see above")
    a = p.parse_args()
    out = os.environ.setdefault("PEERS_OUT", os.path.join(HERE, "results.jsonl"))
    here = {name for name in {run[0] for run in RUNS} if installed(name)}
    for name in sorted({run[0] for run in RUNS} - here):
        print(f"{name} is not installed: left out", flush=True)
    lock = ["flock", os.environ.get("BENCH_LOCK") or os.path.join(tempfile.gettempdir(), "bench.lock"), "timeout",
            str(int(float(a.limit)) + 175)]
    for w in a.workload:
        chosen = [run for run in RUNS if run[0] in here and run[1] in a.ranks and (not a.only or run[0] in a.only)
                  and run[4] in ("", w)]
        runs = {precision: chosen for precision in a.precision}
        for number in range(a.rounds):
            for precision in a.precision:
                rates = []
                for name, ranks, script, args, _ in runs[precision]:
                    command = peer(ranks, script, args, w, precision, a.limit) if script else \
                        ours(ranks, args, w, precision, a.limit)
                    r = subprocess.run(lock + command, cwd=HERE, env=environment(name, ranks), text=True,
                                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                    line = result_line(r.stdout)
                    rates.append(json.loads(line)["tok_s"] if line else 0)
                    load = " ".join(f"{x:.2f}" for x in os.getloadavg())
                    print(f"{told(line, r.returncode)}  load {load}  {w} {precision} n={ranks} {name} {' '.join(args)}",
                          flush=True)
                    if line is None:
                        with open(out + ".errors", "a") as f:
                            f.write(" ".join(command) + f"\nrc {r.returncode}\n" + r.stdout[-3000:] + "\n\n")
                    elif not script:  # the peers write their own
                        with open(out, "a") as f:
                            f.write(line + "\n")
                if a.keep and number == 0:
                    runs[precision] = keep_up(chosen, rates, a.keep)


if __name__ == "__main__":
    main()
