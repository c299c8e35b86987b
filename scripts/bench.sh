#!/usr/bin/env bash
# Switchyard and its peers on this machine, in turn, and the tables of docs/performance.md:
#
#   scripts/bench.sh [--rounds 3] [--workload "W1 W2 W3"] [--precision "fp32 bf16"] [--ranks "1 2"]
#                    [--only "switchyard plain"] [--limit SECONDS] [--keep SHARE] [--quick]
#
# First the GEMM peak of the best library at 4096^3, then each round runs everyone once
# (A B C ... A B C ...), each alone, pinned, under a lock; then the exchange against MPI and
# the MoE layer against the dense one. The rows go to runs/bench/TIME/results.jsonl, the tables
# to tables.md there and to stdout. A headline needs --rounds 9.
#
# Cost: two cores for about 10 minutes a round, workload and precision; less from the second
# round on with --keep 0.8, which leaves out what had less than 0.8 of the fastest peer's tokens/s
# in the first; --quick, one short round of W1 with ours and plain PyTorch, takes about 3. Leave the
# machine alone meanwhile: steps in which other programs took 5 % of it do not count.
# scripts/bench/install_peers.sh installs the peers (2 GB, once). --only "switchyard" needs no peers.
source "$(dirname "$0")/lib.sh"

rounds=3 workload="W1 W2 W3" precision="fp32 bf16" ranks="1 2" only="" limit=60 keep=0 quick=no
while [ $# -gt 0 ]; do
  case "$1" in
    --rounds) rounds=$2 && shift 2 ;;
    --workload) workload=$2 && shift 2 ;;
    --precision) precision=$2 && shift 2 ;;
    --ranks) ranks=$2 && shift 2 ;;
    --only) only=$2 && shift 2 ;;
    --limit) limit=$2 && shift 2 ;;
    --keep) keep=$2 && shift 2 ;;
    --quick) quick=yes rounds=1 workload=W1 only="switchyard plain" limit=15 && shift ;;
    --help) usage && exit ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done

scripts/build.sh
scripts/bench/install_peers.sh
bench() { build/release/switchyard bench "$@"; }

out=runs/bench/$(date -u +%Y%m%dT%H%M%S)
mkdir -p "$out"
export PEERS_OUT=$PWD/$out/results.jsonl
if [ -z "${PEERS_PRELOAD+set}" ]; then
  for library in /usr/lib/*/libtcmalloc_minimal.so.4; do export PEERS_PRELOAD=$library; done
fi
python=$PWD/.venv-peers/bin/python

load() { cut -d' ' -f1-3 /proc/loadavg; }
{
  echo "$(date -u +%FT%TZ), commit $(git rev-parse --short HEAD 2> /dev/null || echo unknown)"
  echo "$(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -1), $(nproc) cores; load average $(load)"
} | tee "$out/machine.txt"

peak_flags=()
[ $quick = no ] || peak_flags=(--rounds 3 --limit 5)
bench gemm --threads 2 --json "${peak_flags[@]}" > "$out/gemm.json"
peak() {
  "$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["peak_gflops"][sys.argv[2]])' \
    "$out/gemm.json" "$1"
}
echo "GEMM peak: fp32 $(peak fp32), bf16 $(peak bf16) GFLOP/s"

run_flags=(--rounds "$rounds" --limit "$limit" --keep "$keep")
# shellcheck disable=SC2206  # lists of words
run_flags+=(--workload $workload --precision $precision --ranks $ranks)
# shellcheck disable=SC2206
[ -z "$only" ] || run_flags+=(--only $only)
"$python" scripts/bench/peers/run_all.py "${run_flags[@]}"

if [ $quick = no ]; then
  mpirun --oversubscribe --bind-to core:overload-allowed -n 2 build/release/switchyard \
    bench all-to-all | tee "$out/all_to_all.txt"
  for threads in 1 2; do
    bench moe-layer --threads "$threads" | tee "$out/moe_layer_$threads.txt"
  done
fi
"$python" scripts/bench/peers/summary.py "$PEERS_OUT" --fp32 "$(peak fp32)" --bf16 "$(peak bf16)" |
  tee "$out/tables.md"
echo "load average $(load); rows and tables in $out"
