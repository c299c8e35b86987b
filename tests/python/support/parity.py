"""Runs `switchyard parity` on configs/tiny.yaml and looks at its report."""

import json

from runs import TINY, sets, switchyard

TOLERANCE = 1e-5
TIGHT = "{factor: 1.0, min: 1}"
# Routing that is spread over the experts: another initialisation would send all tokens to the same few.
SPREAD = {"model__init_std": 0.3}


def parity(data, layouts, *flags, **settings):
    """The report. The exit code says what the report says."""
    done = switchyard("parity", TINY, "--layouts", layouts, "--steps", 2, "--json", *flags,
                      *sets({"data__path": data, **SPREAD, **settings}))
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] == (done.returncode == 0)
    assert [report["reference"], *(row["layout"] for row in report["layouts"])] == layouts.split(",")
    return report


def assert_equal(report):
    assert report["ok"] and report["layout_dependent"] == []
    for row in report["layouts"]:
        assert row["ok"] and row["samples_equal"] and row["dropped_equal"], row
        assert max(row["loss"], row["gradient"], row["norm"]) < TOLERANCE, row
        assert row["worst_parameter"].startswith(("model.", "lm_head."))


def blend(data):
    return f"[{{path: {data}, weight: 0.5}}, {{path: {data}, weight: 0.5, name: other}}]"
