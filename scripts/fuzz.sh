#!/usr/bin/env bash
# Builds the fuzz targets with AddressSanitizer and UndefinedBehaviorSanitizer in
# build/fuzz and runs each:
#
#   scripts/fuzz.sh [--seconds T | --runs N] [--seed S] [TARGET...]
#
# 60 seconds for each by default; one million inputs: --runs 1000000. TARGET is one of
# config, safetensors, token_shard, checkpoint. A finding ends with the line that repeats
# it. Then the official safetensors package is asked whether it accepts what we accept.
source "$(dirname "$0")/lib.sh"

flags=(--seconds 60)
seed=1
targets=()
while [ $# -gt 0 ]; do
  case "$1" in
    --seconds | --runs) flags=("$1" "${2:?$1 needs a number}") && shift ;;
    --seed) seed=${2:?--seed needs a number} && shift ;;
    --help) usage && exit ;;
    -*) fail "unknown option $1; see --help" ;;
    *) targets+=("$1") ;;
  esac
  shift
done
[ ${#targets[@]} -gt 0 ] || targets=(config safetensors token_shard checkpoint)

scripts/install.sh --tests
torch=$(echo .venv/lib/python3.*/site-packages/torch/share/cmake)
cmake -S . -B build/fuzz -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSWITCHYARD_SANITIZE=ON \
  -DSWITCHYARD_NATIVE=OFF "-DCMAKE_PREFIX_PATH=$PWD/$torch" >build/fuzz-configure.log 2>&1 ||
  fail "cmake failed; see build/fuzz-configure.log"
cmake --build build/fuzz --target fuzz_targets

export ASAN_OPTIONS=abort_on_error=1:detect_leaks=1:allocator_may_return_null=0
export UBSAN_OPTIONS=halt_on_error=1:abort_on_error=1:print_stacktrace=1
failed=()
for target in "${targets[@]}"; do
  stage "$target" build/fuzz/tests/fuzz/"fuzz_$target" --seed "$seed" "${flags[@]}" || failed+=("$target")
done
stage "safetensors against the official package" \
  .venv/bin/python tests/fuzz/differential_safetensors.py build/fuzz/tests/fuzz/fuzz_safetensors \
  --seed "$seed" || failed+=(differential)
[ ${#failed[@]} -eq 0 ] || fail "findings: ${failed[*]}"
