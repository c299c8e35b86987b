#!/usr/bin/env python3
"""The table of scripts/gpu_check.sh: gpu_table.py FOLDER, in which each part left NAME.status, NAME.out and NAME.err.

A figure that a part did not print is "not measured"; nothing is estimated.
"""
import json
import pathlib
import re
import sys


class Parts:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def text(self, name, kind="out"):
        path = self.folder / f"{name}.{kind}"
        return path.read_text(errors="replace") if path.exists() else ""

    def verdict(self, name):
        status = self.text(name, "status").strip()
        return {"": "not run", "0": "passed", "124": "exceeded its time"}.get(status, f"failed with {status}")

    def result(self, name):
        """The JSON object that it printed; None where it did not end well."""
        if self.verdict(name) != "passed":
            return None
        return json.loads(self.text(name).splitlines()[-1])


def bf16(result):
    return next(row for row in result["results"] if row["precision"] == "bf16")


def table(parts):
    rows = []
    summary = re.search(r"\d+% tests passed.*", parts.text("tests"))
    skipped = len(re.findall(r"\*\*\*Skipped", parts.text("tests")))
    rows.append(("tests labelled gpu", parts.verdict("tests"), f"{summary[0] if summary else ''}; {skipped} skipped"))
    for name in ("memcheck", "racecheck"):
        errors = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: .*", parts.text(name) + parts.text(name, "err"))
        rows.append((f"compute-sanitizer, {name}, kernels' tests", parts.verdict(name), errors[-1] if errors else ""))
    gemm = parts.result("gemm")
    rows.append(("bf16 product, peak", parts.verdict("gemm"),
                 f"{gemm['peak_gflops']['bf16'] / 1e3:.1f} TFLOP/s" if gemm else "not measured"))
    step = parts.result("step")
    rows.append(("step of configs/bench/gpu.yaml", parts.verdict("step"),
                 f"{step['tok_s']:.0f} tokens/s, MFU {100 * step['mfu']:.1f} % of the peak of the same run"
                 if step else "not measured"))
    plain = {row["experts"]: row for row in (parts.result("plain") or {"results": []})["results"]}
    for experts in (8, 16, 32, 64, 128):
        name, theirs = f"moe-layer-{experts}", plain.get(experts)
        ours = parts.result(name)
        texts = []
        if ours:
            row = bf16(ours)
            texts.append(f"ours {1e3 * row['moe_s']:.2f} ms, {row['ratio']:.2f} times the dense layer")
        if theirs:
            texts.append(f"plain PyTorch {1e3 * theirs['moe_s']:.2f} ms, {theirs['ratio']:.2f} times its dense layer")
        if ours and theirs:
            texts.append(f"plain / ours {theirs['moe_s'] / bf16(ours)['moe_s']:.2f}")
        verdict = parts.verdict(name) if parts.verdict(name) != "passed" else parts.verdict("plain")
        rows.append((f"MoE layer, {experts} experts, bf16", verdict, "; ".join(texts) or "not measured"))
    return rows


def main():
    parts = Parts(sys.argv[1])
    print(parts.text("machine", "txt"))
    print("| part | result | figures |\n|---|---|---|")
    for row in table(parts):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
