#!/usr/bin/env bash
# launch.sh N script.py args...: N ranks of one script on this machine, each pinned to its share
# of the processors (RANK, WORLD_SIZE, MASTER_* as torchrun sets them).
n=$1
shift
export WORLD_SIZE=$n MASTER_ADDR=127.0.0.1 MASTER_PORT=${MASTER_PORT:-$((20000 + $$ % 20000))}
mapfile -t cores < <("${PYTHON:-python3}" -c 'import os; print(*sorted(os.sched_getaffinity(0)), sep="\n")')
share=$((${#cores[@]} / n > 0 ? ${#cores[@]} / n : 1))
for ((r = 0; r < n; r++)); do
  mine=()
  for ((i = 0; i < share; i++)); do mine+=("${cores[$(((r * share + i) % ${#cores[@]}))]}"); done
  list=$(IFS=,; echo "${mine[*]}")
  RANK=$r LOCAL_RANK=$r taskset --cpu-list "$list" "${PYTHON:-python3}" "$@" &
done
trap 'kill $(jobs -p) 2> /dev/null' EXIT INT TERM
rc=0
for ((r = 0; r < n; r++)); do wait -n || {
  rc=$?
  break
}; done
exit $rc
