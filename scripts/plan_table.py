#!/usr/bin/env python3
"""Prints the table of docs/plan.md: memory that `switchyard plan` predicts, and what runs take.

  SWITCHYARD_BIN=build/release/switchyard SWITCHYARD_SOURCE_DIR=$PWD .venv/bin/python scripts/plan_table.py

Runs the test's configs (tests/python/cli/test_plan.py) and those that are known to be off, three steps each,
with glibc as it is and with MALLOC_MMAP_THRESHOLD_=131072, which gives every freed block back at once.
"""
import os
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/python/support"), str(ROOT / "tests/python/cli")]
from runs import TEXT, TINY, prepare, records, sets, switchyard  # noqa: E402
from test_plan import EXPERTS, MEASURED, plan  # noqa: E402

OFF = {"small experts, capacity 1, EP 2": (2, {**EXPERTS, "parallel__expert": 2, "moe__capacity__factor": 1.0}),
       "small experts, bf16, EP 2, ZeRO-2": (2, {**EXPERTS, "parallel__expert": 2, "zero__stage": 2,
                                                 "train__precision": "bf16"})}
THRESHOLD = "MALLOC_MMAP_THRESHOLD_"


def peak(folder, data, ranks, settings):
    done = switchyard("train", TINY, "--resume", "never", *sets({**settings, "run__dir": folder, "data__path": data}),
                      ranks=ranks)
    assert done.returncode == 0, done.stderr
    return records(pathlib.Path(folder) / "tiny")[0][-1]["peak_rss_bytes"]


def main():
    print("| config | ranks | planned | measured | difference | nothing kept: planned | measured | difference |\n"
          "|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(TEXT, pathlib.Path(folder) / "data")
        for name, (ranks, settings) in {**MEASURED, **OFF}.items():
            settings = {"data__sequence_length": 256, "model__vocab_size": 320, "train__steps": 3,
                        "train__eval_interval": 0, "train__threads": 1, "checkpoint__interval": 0, **settings}
            told = plan(TINY, "--ranks", ranks, *sets(settings), ranks=ranks)["bytes_per_rank"]
            os.environ.pop(THRESHOLD, None)
            measured = peak(folder, data, ranks, settings)
            os.environ[THRESHOLD] = "131072"
            bare, alive = told["total"] - told["allocator"], peak(folder, data, ranks, settings)
            del os.environ[THRESHOLD]
            row = [f"{told['total'] / 2**20:.0f}", f"{measured / 2**20:.0f}",
                   f"{100 * (told['total'] / measured - 1):+.1f} %", f"{bare / 2**20:.0f}", f"{alive / 2**20:.0f}",
                   f"{100 * (bare / alive - 1):+.1f} %"]
            print(f"| {name} | {ranks} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
