#!/usr/bin/env bash
# Builds the CUDA build with warnings as errors, and checks what needs no GPU: that it
# starts, says what is missing, and that no kernel spills. Its gpu tests run where
# there is one and skip elsewhere:
#
#   scripts/test_cuda.sh [--again]
#
# scripts/test.sh calls it in CI. Nothing is done when the same sources passed before on this
# machine (~/.cache/switchyard/cuda-passed), but with --again. At most 40 minutes to build: about
# 20 from nothing on two cores, 2 to 3 from a full ccache.
source "$(dirname "$0")/lib.sh"
case "${1:-}" in
  "" | --again) ;;
  --help) usage && exit ;;
  *) fail "unknown option $1; see --help" ;;
esac

# Everything that the build reads, and the compiler.
inputs() {
  find CMakeLists.txt CMakePresets.json src tests/CMakeLists.txt tests/gpu tests/distributed \
    tests/support third_party scripts/*cuda.sh scripts/*ptxas* scripts/install.sh scripts/lib.sh \
    configs/tiny.yaml docs/gpu.md -type f -print0 |
    sort -z | xargs -0 sha256sum
  g++ --version | head -1
}

passed=$(dirname "$(cuda_environment)")/cuda-passed/$(inputs | sha256sum | cut -c1-16)
if [ -e "$passed" ] && [ "${1:-}" != --again ]; then
  echo "CUDA build: these sources have passed on this machine"
  exit
fi

timeout 40m scripts/build_cuda.sh --werror --tests || fail "the CUDA build failed, or took over 40 minutes"
scripts/ptxas_report.py build/cuda --page docs/gpu.md
log=build/cuda/ctest.log
ctest --test-dir build/cuda -L gpu --output-on-failure 2>&1 | tee "$log"
grep -oE -m 1 'no CUDA device: .*' build/cuda/Testing/Temporary/LastTest.log || true
mkdir -p "$(dirname "$passed")"
touch "$passed"
