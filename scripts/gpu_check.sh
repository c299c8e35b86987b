#!/usr/bin/env bash
# Everything that needs a GPU, on a machine that has one: builds, then runs all tests of
# tests/gpu, compute-sanitizer over those of the kernels, the benchmarks, and the same MoE layer in
# plain PyTorch on the same card; writes one table to runs/gpu-check/TIME/table.md:
#
#   scripts/gpu_check.sh [--no-build] [--dry-run]
#
# After the build at most ten minutes: every part has a limit of its own, and one that fails
# or exceeds it is a row of the table and a failure at the end. --no-build takes what is in
# build/cuda, from another machine too (LD_LIBRARY_PATH then names its libraries, and
# SWITCHYARD_CUDA_PYTHON a Python with PyTorch). --dry-run lists the commands, and needs no
# GPU. Without one the exit code is 2. Leave the machine alone meanwhile.
source "$(dirname "$0")/lib.sh"

build=yes dry_run=no
for option in "$@"; do
  case "$option" in
    --no-build) build=no ;;
    --dry-run) dry_run=yes ;;
    --help) usage && exit ;;
    *) fail "unknown option $option; see --help" ;;
  esac
done

no_gpu() {
  echo "gpu_check.sh: no GPU here: $*." >&2
  echo "It needs an NVIDIA GPU of compute capability 8.0 or newer and a driver for CUDA 13 (580 or newer)." \
    "scripts/build_cuda.sh --tests builds everything without them." >&2
  exit 2
}

python=${SWITCHYARD_CUDA_PYTHON:-$(cuda_environment)/bin/python}
sanitizer=$(command -v compute-sanitizer || echo "$(cuda_packages)/nvidia/cu13/bin/compute-sanitizer")
out=runs/gpu-check/$(date -u +%Y%m%dT%H%M%S)
program=build/cuda/switchyard
kernels=build/cuda/tests/gpu/ops_gpu_test
bench=("$program" bench)
config=(--config configs/bench/gpu.yaml)
rounds=(--rounds 10 --limit 8 --json)
failed=()

# part NAME SECONDS COMMAND...: its output goes to NAME.out and NAME.err. The limits add up to
# less than ten minutes.
part() {
  local name=$1 seconds=$2 status=0
  shift 2
  if [ $dry_run = yes ]; then
    printf '%-14s %3d s  %s\n' "$name" "$seconds" "$*"
    return
  fi
  echo "== $name: $*"
  timeout --kill-after=5 "$seconds" "$@" > "$out/$name.out" 2> "$out/$name.err" || status=$?
  echo $status > "$out/$name.status"
  [ $status -eq 0 ] || { failed+=("$name") && tail -n 20 "$out/$name.out" "$out/$name.err"; }
}

if [ $dry_run = no ]; then
  command -v nvidia-smi > /dev/null || no_gpu "nvidia-smi, which comes with the driver, is missing"
  cards=$(nvidia-smi --query-gpu=name,memory.total,driver_version,compute_cap --format=csv,noheader 2>&1) ||
    no_gpu "nvidia-smi says: $cards"
  [ $build = no ] || scripts/build_cuda.sh --tests
  [ -x "$program" ] || fail "$program is not there: run without --no-build"
  mkdir -p "$out"
  {
    echo "$(date -u +%FT%TZ), commit $(git rev-parse --short HEAD 2> /dev/null || echo unknown)"
    echo "$cards"
    "$python" -c 'import torch; print("PyTorch", torch.__version__, "NCCL", *torch.cuda.nccl.version())'
  } | tee "$out/machine.txt"
fi

part tests 150 ctest --test-dir build/cuda -L gpu --output-on-failure --timeout 60
part memcheck 90 "$sanitizer" --tool memcheck --leak-check full --error-exitcode 1 "$kernels"
part racecheck 90 "$sanitizer" --tool racecheck --error-exitcode 1 "$kernels"
part gemm 40 "${bench[@]}" gemm "${config[@]}" "${rounds[@]}"
# A layer of 128 experts is drawn on the host, 0.8 B numbers for each of two precisions.
for experts in 8 16 32 64 128; do
  part "moe-layer-$experts" $((14 + experts / 5)) "${bench[@]}" moe-layer "${config[@]}" \
    --set "moe.num_experts=$experts" "${rounds[@]}"
done
part plain 40 "$python" scripts/bench/gpu_plain.py
part step 70 "${bench[@]}" step "${config[@]}" --rounds 10 --limit 25 --json
[ $dry_run = no ] || exit 0

python3 scripts/bench/gpu_table.py "$out" | tee "$out/table.md"
echo "written: $out/table.md"
# A test that skips itself has not run.
if grep -qE 'no CUDA device' "$out/tests.out"; then fail "tests found no GPU; see $out/tests.out"; fi
[ ${#failed[@]} -eq 0 ] || fail "failed: ${failed[*]}; see $out"
