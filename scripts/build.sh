#!/usr/bin/env bash
# Installs what is missing and builds build/release/switchyard:
#
#   scripts/build.sh [--werror] [--portable] [--tests | --no-tests]
#
# --werror turns warnings into errors, as CI=true does; --portable builds for every
# processor and not only for this machine's (an image), which build/release then keeps;
# --tests builds the tests as well and installs what they need. A first build takes about
# 10 minutes on two cores, with the tests 20; ccache and Ninja make the next ones short.
source "$(dirname "$0")/lib.sh"

werror=OFF
[ "${CI:-}" != true ] || werror=ON
tests=OFF
portable=()
for option in "$@"; do
  case "$option" in
    --werror) werror=ON ;;
    --portable) portable=(-DSWITCHYARD_NATIVE=OFF) ;;
    --tests) tests=ON ;;
    --no-tests) tests=OFF ;;
    --help) usage && exit ;;
    *) fail "unknown option $option; see --help" ;;
  esac
done

install_options=()
targets=(switchyard switchyard_help)
if [ "$tests" = ON ]; then
  install_options=(--tests)
  targets=(all)
fi
scripts/install.sh "${install_options[@]}"

# A folder that has been configured with the tests keeps them.
settings=("-DSWITCHYARD_WERROR=$werror" "${portable[@]}")
if [ "$tests" = ON ] || [ ! -e build/release/build.ninja ]; then
  settings+=("-DBUILD_TESTING=$tests")
fi
torch=$(echo .venv/lib/python3.*/site-packages/torch/share/cmake)
cmake --preset release "-DCMAKE_PREFIX_PATH=$PWD/$torch" "${settings[@]}"
cmake --build build/release --target "${targets[@]}"
