#!/usr/bin/env python3
"""Prints the table of docs/plan.md: memory that `switchyard plan` predicts, and what runs take.

  SWITCHYARD_BIN=build/release/switchyard SWITCHYARD_SOURCE_DIR=$PWD .venv/bin/python scripts/plan_table.py

Runs the test's configs (tests/python/cli/test_plan.py) and one that is known to be off, three steps each.
"""
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/python/support"), str(ROOT / "tests/python/cli")]
from runs import TEXT, TINY, prepare, records, sets, switchyard  # noqa: E402
from test_plan import EXPERTS, MEASURED, plan  # noqa: E402

OFF = {"small experts, capacity 1, EP 2": (2, {**EXPERTS, "parallel__expert": 2, "moe__capacity__factor": 1.0})}


def peak(folder, data, ranks, settings):
    done = switchyard("train", TINY, "--resume", "never", *sets({**settings, "run__dir": folder, "data__path": data}),
                      ranks=ranks)
    assert done.returncode == 0, done.stderr
    return records(pathlib.Path(folder) / "tiny")[0][-1]["peak_rss_bytes"]


def main():
    print("| config | ranks | planned | measured | difference |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(TEXT, pathlib.Path(folder) / "data")
        for name, (ranks, settings) in {**MEASURED, **OFF}.items():
            settings = {"data__sequence_length": 256, "model__vocab_size": 320, "train__steps": 3,
                        "train__eval_interval": 0, "train__threads": 1, "checkpoint__interval": 0, **settings}
            told = plan(TINY, "--ranks", ranks, *sets(settings), ranks=ranks)["bytes_per_rank"]["total"]
            measured = peak(folder, data, ranks, settings)
            print(f"| {name} | {ranks} | {told / 2**20:.0f} | {measured / 2**20:.0f} | {100 * (told / measured - 1):+.1f} % |",
                  flush=True)


if __name__ == "__main__":
    main()
