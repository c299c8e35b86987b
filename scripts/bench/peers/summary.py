"""summary.py results.jsonl --fp32 220 --bf16 432: Markdown tables, fastest first, and ours over the best peers.

Runs with under 5 quiet steps are left out, or marked noisy where there is nothing else.
MFU = (6 x active parameters + 6 x layers x seq x hidden) x tokens/s / measured GEMM peak of all cores.
"""
import argparse
import json
import re
import statistics

from workloads import WORKLOADS

OURS = "switchyard"


def variant(r):
    return r["variant"] + (f" unit={r['unit']}" if r.get("unit", 1) > 1 else "") + \
        (" onednn" if r["matmul"] == "onednn" else "") + ("" if r["malloc"] == "tcmalloc" else f" {r['malloc']}") + \
        (f" [{r['note']}]" if r["note"] else "")


def median_of(rs):
    """Of the runs with quiet steps, or of all; and whether those were all noisy."""
    good = [r for r in rs if r["quiet"] >= 5]
    return statistics.median(r["tok_s"] for r in good or rs), not good


def table(rows, workload, peak):
    """{(peer, variant): runs} as lines, fastest first."""
    lines = []
    for (peer, name), rs in rows.items():
        med, noisy = median_of(rs)
        used = rs if noisy else [r for r in rs if r["quiet"] >= 5]
        mfu = med * WORKLOADS[workload].flops_per_token() / 1e9 / peak
        rss = max((b for r in rs for b in r.get("peak_rss_bytes", [])), default=0)
        lines.append((med, f"| {peer} | {name} | {med:.0f} | {min(r['tok_s_min'] for r in used):.0f} | "
                           f"{max(r['tok_s_max'] for r in used):.0f} | {100 * mfu:.0f}% | "
                           f"{f'{rss / 2**20:.0f}' if rss else '-'} | {len(used)}{' (noisy)' if noisy else ''} |"))
    return [line for _, line in sorted(lines, reverse=True)]


def best(groups, workload, precision, mine, ranks=None, beside=None):
    """The fastest of ours, or of the peers. A balanced router and one rank alone are figures beside it: `beside`."""
    found = [median_of(rs)[0] for (w, p, n), rows in groups.items() for (peer, name), rs in rows.items()
             if w == workload and p == precision and (ranks is None or n == ranks)
             and (peer == OURS) == mine and (beside in name if beside else not re.search("balanced|alone", name))]
    return max(found, default=None)


def over(a, b):
    return "-" if a is None or b is None else f"{a / b:.2f}"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("files", nargs="+")
    p.add_argument("--fp32", type=float, required=True, help="GFLOP/s of all cores at a large GEMM")
    p.add_argument("--bf16", type=float, required=True)
    a = p.parse_args()
    groups = {}
    for f in a.files:
        for line in open(f):
            r = json.loads(line)
            groups.setdefault((r["workload"], r["precision"], r["ranks"]), {}) \
                .setdefault((r["peer"], variant(r)), []).append(r)
    for (w, precision, ranks), rows in sorted(groups.items()):
        print(f"\n### {w} {precision}, {ranks} process{'es' if ranks > 1 else ''} x {2 // ranks} "
              f"thread{'s' if ranks == 1 else ''}\n")
        print("| peer | variant | tokens/s (median) | min | max | MFU | MiB per rank | runs |\n|---|---|---|---|---|---|---|---|")
        print("\n".join(table(rows, w, getattr(a, precision))))
    print("\n### Switchyard over the best peer\n\n"
          "| workload | precision | two ranks / best two-process peer | two ranks / best peer of any form | "
          "one rank / best peer of any form | one rank / two ranks | two ranks / twice one alone |\n"
          "|---|---|---|---|---|---|---|")
    for w, precision in sorted({(w, precision) for w, precision, _ in groups}):
        one, two = (best(groups, w, precision, True, n) for n in (1, 2))
        alone = best(groups, w, precision, True, 1, beside="alone")
        pair, anyone = best(groups, w, precision, False, 2), best(groups, w, precision, False)
        print(f"| {w} | {precision} | {over(two, pair)} | {over(two, anyone)} | {over(one, anyone)} | {over(one, two)} | "
              f"{over(two, alone and 2 * alone)} |")


if __name__ == "__main__":
    main()
