#!/usr/bin/env bash
# hanging_rank_test.sh PROGRAM WAY RANKS END [MESSAGE]
#
# Runs `PROGRAM WAY FOLDER` under mpirun (see hanging_rank.cpp) and expects one of
#
#   well    exit code 0 and no message
#   hang    exit code 75; one line of each rank, which names step 3; one verdict, which
#           matches MESSAGE and names the way out. Under "gpu" and "dead_gpu" work on a GPU was
#           aborted
#   lost    another exit code than 0; one line about rank 1, which names step 3, its phase
#           and the way out
#   told    another exit code than 0; one line, which matches MESSAGE
#   orphan  mpirun itself is killed
#
# and in every case that no process of the job is left five seconds later.
set -u
program=$1 way=$2 ranks=$3 end=$4 message=${5:-}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
errors=$scratch/errors

begin=$(date +%s.%N)
mpirun --timeout 100 --oversubscribe -n "$ranks" "$program" "$way" "$scratch/flight" 2>"$errors"
code=$?
echo "$way, $ranks ranks: exit code $code after" \
  "$(echo "$(date +%s.%N) $begin" | awk '{printf "%.1f", $1 - $2}') s"

fail() {
  echo "FAILED: $1"
  cat "$errors"
  exit 1
}
lines() { grep -cE "^switchyard: $1" "$errors"; }
expect_lines() { [ "$(lines "$2")" -eq "$1" ] || fail "not $1 times: $2"; }

from='; last checkpoint runs/r/checkpoints/step-00000002, from which --resume auto goes on$'
case $end in
  well)
    [ $code -eq 0 ] || fail "exit code $code"
    expect_lines 0 ""
    ;;
  hang)
    [ $code -eq 75 ] || fail "exit code $code"
    for ((rank = 0; rank < ranks; rank++)); do
      expect_lines 1 "rank $rank \(host [^ ]+, pid [0-9]+\): step 3, "
    done
    expect_lines 1 "no progress for 2 s: .*$from"
    expect_lines 1 "no progress for 2 s: $message"
    expect_lines $((ranks + 1)) ""
    [[ $way != *gpu ]] || grep -q '^aborted$' "$errors" || fail "work on a GPU goes on"
    ;;
  lost)
    [ $code -ne 0 ] || fail "exit code $code"
    expect_lines 1 "rank 1 \(host [^ ]+, pid [0-9]+\): step 3, forward, .*: its process is gone$from"
    expect_lines 1 ""
    ;;
  told)
    [ $code -ne 0 ] || fail "exit code $code"
    expect_lines 1 "$message"
    expect_lines 1 ""
    ;;
  orphan)
    [ $code -eq 137 ] || fail "exit code $code"
    ;;
esac

for _ in $(seq 50); do
  pgrep -f "$scratch/flight" >"$scratch/left" || break
  sleep 0.1
done
[ ! -s "$scratch/left" ] || fail "left behind: $(cat "$scratch/left")"
exit 0
