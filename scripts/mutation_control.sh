#!/usr/bin/env bash
# Whether the tests notice what they are there for: builds Switchyard with one mistake
# at a time and runs the test that has to fail with it:
#
#   scripts/mutation_control.sh [NAME ...]
#
# The mistakes are the patches tests/faults/mutants/NAME.patch, all of them by default;
# each tells above its diff what it breaks, the CMake targets to build, and the test,
# one of faults_test or of pytest, which has to pass without the patch. A copy of the
# sources, in build/mutants, is patched and built. Prints a line per mutant and exits 1
# unless every one is caught; what builds and tests wrote is in build/mutants/logs.
# Costs about 20 minutes on two cores the first time, 5 when it is built already.
source "$(dirname "$0")/lib.sh"
if [ "${1:-}" = --help ]; then usage && exit; fi

patches=$PWD/tests/faults/mutants
copy=$PWD/build/mutants
bin=$copy/build/release
python=$PWD/.venv/bin/python
logs=$copy/logs
max_seconds=400  # a test that hangs has failed

# Leaves alone what is equal already, so that only what a patch has changed is built again.
copy_sources() {
  local file
  git ls-files --cached --others --exclude-standard -z | while IFS= read -r -d '' file; do
    [ -f "$file" ] || continue
    cmp --silent "$file" "$copy/$file" || cp --parents "$file" "$copy"
  done
}

# field NAME MUTANT: what the patch tells of itself.
field() {
  sed -n "s/^$1: //p; /^---/q" "$patches/$2.patch"
}

configure() {
  local torch
  torch=$(echo "$PWD"/.venv/lib/python3.*/site-packages/torch/share/cmake)
  cd "$copy"
  cmake --preset release "-DCMAKE_PREFIX_PATH=$torch" -DBUILD_TESTING=ON
}

# build LOG TARGET...
build() {
  local log=$1
  shift
  cmake --build "$bin" --target "$@" > "$log" 2>&1 || fail "$* cannot be built, see $log"
}

# run_test TEST: `path/test_it.py::test_name` or a test of faults_test. As CTest would,
# see tests/CMakeLists.txt.
run_test() {
  local command=("$bin/tests/faults/faults_test" --gtest_fail_fast "--gtest_filter=$1")
  if [[ $1 == *.py::* ]]; then
    command=("$python" -m pytest -q -p no:cacheprovider "$1")
  fi
  cd "$copy"
  SWITCHYARD_BIN=$bin/switchyard SWITCHYARD_FAULTY_BIN=$bin/switchyard_faulty \
    SWITCHYARD_SOURCE_DIR=$copy PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 \
    timeout --kill-after=10 "$max_seconds" "${command[@]}"
}

# Without a mistake every test has to pass, or its failure says nothing.
check_unmutated() {
  local mutant test words targets=() tests=()
  for mutant in "$@"; do
    read -ra words <<< "$(field Targets "$mutant")"
    targets+=("${words[@]}")
    tests+=("$(field Test "$mutant")")
  done
  build "$logs/unmutated-build.log" "${targets[@]}"
  printf '%s\n' "${tests[@]}" | sort --unique | while read -r test; do
    (run_test "$test") > "$logs/unmutated.log" 2>&1 < /dev/null \
      || fail "$test fails without a mutant, see $logs/unmutated.log"
    echo "without a mutant: $test passes"
  done
}

# try MUTANT: a line of what came of it; fails when it is not caught.
try() {
  local mutant=$1 start=$SECONDS test verdict='NOT CAUGHT' targets
  test=$(field Test "$mutant")
  read -ra targets <<< "$(field Targets "$mutant")"
  # As outside of any repository: inside one, git passes over ignored folders.
  GIT_CEILING_DIRECTORIES=${copy%/*} git -C "$copy" apply "$patches/$mutant.patch" \
    || fail "$mutant.patch does not apply any more"
  build "$logs/$mutant-build.log" "${targets[@]}"
  (run_test "$test") > "$logs/$mutant.log" 2>&1 < /dev/null || verdict=caught
  copy_sources
  printf '%-18s %-10s by %s, %d s\n' "$mutant" "$verdict" "$test" $((SECONDS - start))
  [ "$verdict" = caught ]
}

mutants=("$@")
if [ $# -eq 0 ]; then
  for patch in "$patches"/*.patch; do mutants+=("$(basename "$patch" .patch)"); done
fi
for mutant in "${mutants[@]}"; do
  [ -f "$patches/$mutant.patch" ] || fail "no mutant $mutant; there are: $(ls "$patches")"
done

scripts/install.sh --tests
mkdir -p "$logs"
copy_sources
(configure) > "$logs/configure.log" 2>&1 || fail "cannot be configured, see $logs/configure.log"
check_unmutated "${mutants[@]}"
caught=0
for mutant in "${mutants[@]}"; do
  if try "$mutant"; then caught=$((caught + 1)); fi
done
echo "$caught of ${#mutants[@]} mutants caught"
[ "$caught" -eq ${#mutants[@]} ]
