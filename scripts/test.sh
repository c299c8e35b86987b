#!/usr/bin/env bash
# Installs, builds and checks everything, then runs every test:
#
#   scripts/test.sh
#
# The checks that take seconds come first, CTest's summary last. From a warm build
# it takes under 20 minutes on two cores. With CI=true the CUDA build is checked as well
# (scripts/test_cuda.sh), where its sources have changed. Arguments are passed on to ctest:
# `scripts/test.sh -R metrics` runs the tests of that name.
source "$(dirname "$0")/lib.sh"
if [ "${1:-}" = --help ]; then usage && exit; fi

failed=()
check() {
  local name=$1
  shift
  "$@" || failed+=("$name")
}

sources() {
  find src tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh'
}

check_format() {
  sources | xargs clang-format-14 --dry-run -Werror && echo "format: as clang-format 14 has it"
}

check_shell() {
  shellcheck scripts/*.sh scripts/slurm.sbatch .ci/run && echo "shell: shellcheck has no objections"
}

# What executes what it reads, or hands names out of files to a shell.
check_safe_readers() {
  if grep -rnE 'torch::(load|jit::load|pickle_load)|std::system|popen\(' src; then return 1; fi
  echo "readers: no pickle, no torch::load, no shell"
}

check_tour() {
  # shellcheck disable=SC2016  # the backquotes are Markdown's
  if grep -qsE '^- `[^`]+` `[^`]+` -- ' README.md; then scripts/check_tour.py; fi
}

# scripts/mutation_control.sh takes long and runs by hand: here only that it can.
check_mutants() {
  local patch
  for patch in tests/faults/mutants/*.patch; do git apply --check "$patch" || return 1; done
  echo "mutants: every patch of tests/faults/mutants applies"
}

scripts/install.sh --tests
check layers scripts/check_layers.py
check tour check_tour
check "tests registered" scripts/check_tests_registered.py
check "methods" scripts/check_methods.py
check format check_format
check shell check_shell
check "safe readers" check_safe_readers
check mutants check_mutants
scripts/code_shape.py
[ ${#failed[@]} -eq 0 ] || fail "failed: ${failed[*]}"

scripts/build.sh --tests
if [ "${CI:-}" = true ]; then scripts/test_cuda.sh; fi

# A test that skips itself has not run: that is a failure, said after the summary.
log=build/release/ctest.log
ctest --test-dir build/release --output-on-failure -j "$(nproc)" "$@" 2>&1 | tee "$log"
if grep -qE '\((Skipped|Disabled)\)$' "$log"; then
  fail "some tests did not run; see the list above"
fi
