#!/usr/bin/env bash
# What a save costs beside a memory copy and dd of the same bytes, side by side:
#
#   scripts/bench_save.sh [--ranks 2] [--parameters 218200000] [--rounds 9] [--folder runs/bench_save]
#
# By default the bytes of configs/w2.yaml: 3.05 GB, and as much again twice in memory.
source "$(dirname "$0")/lib.sh"

ranks=2 parameters=218200000 rounds=9 folder=runs/bench_save
while [ $# -gt 0 ]; do
  case "$1" in
    --ranks) ranks=$2 && shift 2 ;;
    --parameters) parameters=$2 && shift 2 ;;
    --rounds) rounds=$2 && shift 2 ;;
    --folder) folder=$2 && shift 2 ;;
    --help) usage && exit ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done
scripts/build.sh --tests
mkdir -p "$folder"
trap 'rm -rf "$folder"' EXIT
echo "load average before: $(cut -d' ' -f1-3 /proc/loadavg)"
mpi_run "$ranks" build/release/tests/checkpoint/save_benchmark "$folder" "$parameters" "$rounds"
echo "load average after: $(cut -d' ' -f1-3 /proc/loadavg)"
