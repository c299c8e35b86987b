#!/usr/bin/env bash
# no_gpu_test.sh PROGRAM SOURCE_DIR
#
# What the CUDA build does where it sees no GPU, as on the machine that builds it: it starts, trains on the
# CPU, and refuses train.device cuda with exit code 2 and what it looked for. Hides the GPUs of a machine that has some.
set -u
program=$1 source=$2
export CUDA_VISIBLE_DEVICES=""
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

complain() {
  echo "$*"
  cat out err
  exit 1
}

# expect CODE WORDS...
expect() {
  local code=$1 status=0
  shift
  "$@" > out 2> err || status=$?
  [ "$status" -eq "$code" ] || complain "exit code $status, expected $code: $*"
}

expect 0 "$program" --help
expect 0 "$program" --version
expect 0 "$program" prepare --text "$source/tests/python/support/austen.txt" --out data
train=("$program" train "$source/configs/tiny.yaml" --set data.path=data --set train.steps=2
  --set "run.dir=$work" --set train.threads=1)
expect 0 "${train[@]}" --set run.name=cpu
grep -q 'step 2/2 | loss ' out || complain "no second step"
expect 2 "${train[@]}" --set run.name=gpu --set train.device=cuda
grep 'train.device' err | grep -q 'libcuda.so.1' || complain "does not say what it looked for"
expect 0 "${train[@]}" --set train.device=cuda --print-config
