"""The scripts for GPUs on a machine without one: what they list, refuse and make of what a GPU would print."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

SOURCE = pathlib.Path(os.environ["SWITCHYARD_SOURCE_DIR"])
SCRIPTS = SOURCE / "scripts"


def run(*command, **environment):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=200, cwd=SOURCE,
                          env={**os.environ, **environment})


def test_gpu_check_lists_its_parts_and_they_fit_in_ten_minutes():
    done = run(SCRIPTS / "gpu_check.sh", "--dry-run")
    assert done.returncode == 0, done.stderr
    parts = [line.split(maxsplit=3) for line in done.stdout.splitlines()]
    assert sum(int(seconds) for _, seconds, _, _ in parts) <= 600
    commands = {name: command for name, _, _, command in parts}
    assert "ctest --test-dir build/cuda -L gpu" in commands["tests"]
    assert "--tool memcheck" in commands["memcheck"] and "--tool racecheck" in commands["racecheck"]
    for name in ("gemm", "step", *(f"moe-layer-{experts}" for experts in (8, 16, 32, 64, 128))):
        assert commands[name].startswith("build/cuda/switchyard bench ") and "configs/bench/gpu.yaml" in commands[name]
    assert "gpu_plain.py" in commands["plain"]


def test_gpu_check_says_what_is_missing(tmp_path):
    for tool in ("bash", "dirname", "basename", "date", "id", "sha256sum", "sed"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    done = run(SCRIPTS / "gpu_check.sh", PATH=str(tmp_path))
    assert done.returncode == 2
    assert "no GPU here: nvidia-smi, which comes with the driver, is missing" in done.stderr
    (tmp_path / "nvidia-smi").write_text("#!/bin/bash\necho 'No devices were found'\nexit 6\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    done = run(SCRIPTS / "gpu_check.sh", PATH=str(tmp_path))
    assert done.returncode == 2 and "no GPU here: nvidia-smi says: No devices were found" in done.stderr


def test_the_table_shows_what_was_measured_and_nothing_else(tmp_path):
    def part(name, status, out="", err=""):
        for kind, text in (("status", f"{status}\n"), ("out", out), ("err", err)):
            (tmp_path / f"{name}.{kind}").write_text(text)

    def layer(experts, moe_s, dense_s):
        return {"experts": experts, "precision": "bf16", "moe_s": moe_s, "dense_s": dense_s, "ratio": moe_s / dense_s}

    (tmp_path / "machine.txt").write_text("a card\n")
    part("tests", 0, "1/2 Test #1: a ....   Passed\n2/2 Test #2: b ...***Skipped\n100% tests passed, 0 tests failed out of 2\n")
    part("memcheck", 0, "========= ERROR SUMMARY: 0 errors\n")
    part("racecheck", 124)
    part("gemm", 0, json.dumps({"peak_gflops": {"bf16": 4000, "fp32": 1}}) + "\n")
    part("moe-layer-8", 0, "a warning\n" + json.dumps({"results": [{"precision": "fp32"}, layer(8, 0.002, 0.001)]}) + "\n")
    part("moe-layer-16", 1, "{}\n", "out of memory")
    part("plain", 0, json.dumps({"results": [layer(8, 0.003, 0.001), layer(16, 0.004, 0.001)]}) + "\n")
    done = run(sys.executable, SCRIPTS / "bench/gpu_table.py", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {cells[1].strip(): [c.strip() for c in cells[2:4]]
            for cells in (line.split("|") for line in done.stdout.splitlines() if line.startswith("| "))}
    assert done.stdout.startswith("a card\n")
    assert rows["tests labelled gpu"] == ["passed", "100% tests passed, 0 tests failed out of 2; 1 skipped"]
    assert rows["compute-sanitizer, memcheck, kernels' tests"] == ["passed", "ERROR SUMMARY: 0 errors"]
    assert rows["compute-sanitizer, racecheck, kernels' tests"] == ["exceeded its time", ""]
    assert rows["bf16 product, peak"] == ["passed", "4.0 TFLOP/s"]
    assert rows["step of configs/bench/gpu.yaml"] == ["not run", "not measured"]
    assert rows["MoE layer, 8 experts, bf16"] == ["passed", "ours 2.00 ms, 2.00 times the dense layer; plain PyTorch "
                                                  "3.00 ms, 3.00 times its dense layer; plain / ours 1.50"]
    assert rows["MoE layer, 16 experts, bf16"] == ["failed with 1", "plain PyTorch 4.00 ms, 4.00 times its dense layer"]
    assert rows["MoE layer, 32 experts, bf16"] == ["not run", "not measured"]


def test_the_plain_layer_computes_a_moe_layer():
    done = run(sys.executable, SCRIPTS / "bench/gpu_plain.py", "--check", "--device", "cpu")
    assert done.returncode == 0 and "equals the loop over experts" in done.stdout, done.stderr


def test_the_plain_layer_is_timed_against_the_dense_one():
    done = run(sys.executable, SCRIPTS / "bench/gpu_plain.py", "--device", "cpu", "--experts", 4, 8, "--tokens", 64,
               "--hidden", 32, "--width", 48, "--rounds", 3, "--warmup", 1)
    assert done.returncode == 0, done.stderr
    for row, experts in zip(json.loads(done.stdout)["results"], (4, 8), strict=True):
        assert row["experts"] == experts and row["ratio"] == pytest.approx(row["moe_s"] / row["dense_s"])


KERNEL = "_ZN10switchyard12_GLOBAL__N_14copyIfEEvPT_i"


def said_by_ptxas(gpu, spills=0, stack=0, name=KERNEL):
    return f"""ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{name}' for '{gpu}'
ptxas info    : Function properties for {name}
    {stack} bytes stack frame, {spills} bytes spill stores, {spills} bytes spill loads
ptxas info    : Used 16 registers, used 1 barriers, 512 bytes smem, 364 bytes cmem[0]
ptxas info    : Function properties for _ZN3foo3barEv
    64 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads
"""


@pytest.fixture
def report(tmp_path):
    def made(text, *flags):
        (tmp_path / "a.cu.o.ptxas").write_text(text)
        return run(SCRIPTS / "ptxas_report.py", tmp_path, *flags)

    return made


ALL = "".join(said_by_ptxas(gpu) for gpu in ("sm_80", "sm_90", "sm_100"))


def test_the_report_has_a_row_for_each_kernel_of_ours(report):
    done = report(ALL + said_by_ptxas("sm_90", spills=4, name="_ZN3cub4sortEv"))
    assert done.returncode == 0, done.stderr
    assert "| kernel | sm_80 | sm_90 | sm_100 |" in done.stdout
    assert "| `copy<float>` | 16, 512 B | 16, 512 B | 16, 512 B |" in done.stdout and "sort" not in done.stdout


def test_a_kernel_that_spills_is_a_failure(report):
    done = report(ALL + said_by_ptxas("sm_90", spills=4, stack=8))
    assert done.returncode == 1 and "copy<float> on sm_90: 8 bytes of spills, 8 bytes of stack" in done.stderr


def test_a_gpu_without_kernels_is_a_failure(report):
    done = report(said_by_ptxas("sm_80") + said_by_ptxas("sm_90"))
    assert done.returncode == 1 and "no kernel of ours was compiled for sm_100" in done.stderr


def test_the_page_has_the_table_of_the_build(report, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- ptxas -->\nold\n<!-- end -->\nafter\n")
    assert report(ALL, "--page", page).returncode == 1
    assert report(ALL, "--write", page).returncode == 0
    assert report(ALL, "--page", page).returncode == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- ptxas -->\n| kernel |") and text.endswith("\n<!-- end -->\nafter\n")
