#!/usr/bin/env bash
# clang-tidy, by the rules of .clang-tidy, on the C++ files that differ from a base:
#
#   scripts/tidy.sh [BASE]      BASE is a commit, origin/main if there is one, else HEAD
#   scripts/tidy.sh --all       the whole tree
#
# Costs 8 to 20 seconds a file that includes LibTorch. Files count with their
# uncommitted changes; a changed header counts with the sources that include it
# directly. Exits 1 on any finding.
source "$(dirname "$0")/lib.sh"
if [ "${1:-}" = --help ]; then usage && exit; fi

changed_sources() {
  local base=${1:-} file
  if [ -z "$base" ]; then
    base=$(git rev-parse --verify --quiet origin/main || git rev-parse HEAD)
  fi
  {
    git diff --name-only --diff-filter=d "$base" -- src tests
    git ls-files --others --exclude-standard -- src tests
  } | while read -r file; do
    case "$file" in
      *.cpp) echo "$file" ;;
      src/*.h) grep -rl --include='*.cpp' "#include \"${file#src/}\"" src tests || true ;;
    esac
  done | sort --unique
}

if [ "${1:-}" = --all ]; then
  files=$(find src tests -name '*.cpp' | sort)
else
  files=$(changed_sources "$@")
fi
if [ -z "$files" ]; then
  echo "tidy: no C++ file differs"
  exit
fi

scripts/install.sh --tests
# Ninja knows how each file is compiled; clang-tidy reads it from this list. The
# precompiled headers are g++'s and mean nothing to clang, nor does ccache.
mkdir -p build/tidy
ninja -C build/release -t compdb | sed -E \
  's#"command": "[^"]*/ccache #"command": "#; s/-Winvalid-pch//g; s/-include [^ ]*cmake_pch\.hxx//g' > build/tidy/compile_commands.json
echo "$files" | xargs -P "$(nproc)" -n 1 clang-tidy-14 -p build/tidy --quiet \
  || fail "the findings are above"
