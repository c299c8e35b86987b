#!/usr/bin/env bash
# The whole product of `switchyard parity` on configs/tiny.yaml, of which
# scripts/test.sh runs a sample:
#
#   scripts/torture_parity.sh
#
# Every layout of 1 to 8 ranks, one and four micro-batches per step, dropless and
# capacity factor 1.0, each balance loss in each scope. Prints a line per config
# and layout and a summary; exits 1 when one differs. Costs about ten minutes on two
# cores. SWITCHYARD_BIN names a program that is already built.
source "$(dirname "$0")/lib.sh"
if [ "${1:-}" = --help ]; then usage && exit; fi

layouts=1x1a1,1x1a4
for world in 2x1 2x2 4x1 4x2 4x4 8x1 8x2 8x4; do layouts+=,${world}a1,${world}a4; done
if [ -z "${SWITCHYARD_BIN:-}" ]; then
  scripts/build.sh
  SWITCHYARD_BIN=build/release/switchyard
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The initialisation is wide, so that routing is spread over the experts.
product() {
  local capacity type scope balance
  for capacity in '{factor: null}' '{factor: 1.0, min: 1}'; do
    for type in switch gshard topk hf; do
      for scope in group global global_lagged; do
        balance="{type: $type, scope: $scope, coef: 0.05}"
        printf '== capacity %s, balance %s\n' "$capacity" "$balance"
        "$SWITCHYARD_BIN" parity configs/tiny.yaml --layouts "$layouts" --steps 2 \
          --set "data.path=$work/data" --set train.threads=1 --set train.global_batch_size=32 \
          --set model.init_std=0.3 --set "moe.capacity=$capacity" --set "moe.balance=$balance" \
          || echo "FAILED with exit code $?"
      done
    done
  done
}

# Lines of parity: "4x2a4 equal loss 1.6e-07 norm 7.9e-09 gradient 2.4e-07 flips 0 ..."
summary() {
  awk '
    /^==/ { ++configs }
    /^FAILED/ { ++failed }
    $3 == "loss" {
      ++layouts; flips += $10
      if ($4 > loss) loss = $4 + 0
      if ($8 > gradient) gradient = $8 + 0
    }
    END {
      printf "%d configs, %d comparisons; %d configs with a difference\n", configs, layouts, failed
      printf "largest difference: loss %.1e, gradient %.1e; %d routing flips\n", loss, gradient, flips
      exit failed > 0
    }' "$1"
}

"$SWITCHYARD_BIN" prepare --text tests/python/support/austen.txt --out "$work/data"
product | tee "$work/lines"
summary "$work/lines"
