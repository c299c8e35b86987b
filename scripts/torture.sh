#!/usr/bin/env bash
# The whole product of `switchyard parity` on configs/tiny.yaml, of which
# scripts/test.sh runs a sample:
#
#   scripts/torture.sh
#
# Every layout of 1 to 8 ranks, one and four micro-batches per step, dropless and
# capacity factor 1.0, each balance loss in each scope. Prints a line per config
# and layout and a summary; exits 1 when one differs. Costs about ten minutes on two
# cores.
source "$(dirname "$0")/lib.sh"
if [ "${1:-}" = --help ]; then usage && exit; fi

layouts=1x1a1,1x1a4,2x1a1,2x1a4,2x2a1,2x2a4,4x1a1,4x1a4,4x2a1,4x2a4,4x4a1,4x4a4,8x4a1,8x4a4
data=data/tiny
scripts/build.sh
if [ ! -e $data/meta.json ]; then
  build/release/switchyard prepare --text tests/python/cli/austen.txt --out $data
fi

configs=0
failed=()
for capacity in '{factor: null}' '{factor: 1.0, min: 1}'; do
  for type in switch gshard topk hf; do
    for scope in group global global_lagged; do
      balance="{type: $type, scope: $scope, coef: 0.05}"
      configs=$((configs + 1))
      printf '== capacity %s, balance %s\n' "$capacity" "$balance"
      build/release/switchyard parity configs/tiny.yaml --layouts "$layouts" --steps 2 \
        --set "data.path=$data" --set train.threads=1 --set train.global_batch_size=32 \
        --set "moe.capacity=$capacity" --set "moe.balance=$balance" \
        || failed+=("$capacity $balance")
    done
  done
done
printf '%d configs, %d with a difference\n' "$configs" "${#failed[@]}"
[ ${#failed[@]} -eq 0 ] || fail "they differ: ${failed[*]}"
