#!/usr/bin/env bash
# All of what scripts/test.sh runs a sample of, on two cores a matter of hours:
#
#   scripts/torture.sh [parity] [storage] [reshard] [matrix] [kills]
#
#   parity   every layout, capacity, balance loss and scope   (torture_parity.sh)
#   storage  every file operation fails in turn, every power cut, every flipped bit
#   reshard  every layout's checkpoint on every other: 900 pairs
#   matrix   every death in every phase, on 2, 4 and 8 ranks; disks, signals, damage
#   kills    1,000 times kill -9 while a run trains and saves; SWITCHYARD_KILLS=N for N
#
# Without an argument all of them. Prints what each has counted, and exits with 1 when one
# has failed. docs/reliability.md has the figures of a whole run.
source "$(dirname "$0")/lib.sh"
if [ "${1:-}" = --help ]; then usage && exit; fi

export SWITCHYARD_TORTURE=1 OMP_NUM_THREADS=1
build=$PWD/build/release
export SWITCHYARD_BIN=$build/switchyard SWITCHYARD_FAULTY_BIN=$build/switchyard_faulty
export SWITCHYARD_SOURCE_DIR=$PWD PYTHONDONTWRITEBYTECODE=1

pytest() { .venv/bin/python -m pytest -q -s -p no:cacheprovider "$@"; }

parity() { scripts/torture_parity.sh; }
storage() { "$build/tests/faults/faults_test" --gtest_brief=1; }
reshard() { mpi_run 8 -x SWITCHYARD_TORTURE "$build/tests/train/train_reshard_test" --gtest_brief=1; }
matrix() {
  pytest tests/faults --deselect tests/faults/test_kill.py::test_kill_loop
}
kills() { pytest tests/faults/test_kill.py::test_kill_loop; }

stages=("$@")
[ $# -gt 0 ] || stages=(parity storage reshard matrix kills)
for name in "${stages[@]}"; do
  case "$name" in
    parity | storage | reshard | matrix | kills) ;;
    *) fail "no stage $name; see --help" ;;
  esac
done

scripts/build.sh --tests
failed=()
for name in "${stages[@]}"; do
  stage "$name" "$name" || failed+=("$name")
done
[ ${#failed[@]} -eq 0 ] || fail "failed: ${failed[*]}"
