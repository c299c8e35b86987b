#!/usr/bin/env bash
# Installs what is missing and builds build/cuda/switchyard, for NVIDIA GPUs of compute
# capability 8.0 or newer and a driver for CUDA 13. Building needs no GPU and no driver:
#
#   scripts/build_cuda.sh [--werror] [--portable] [--tests]
#
# --werror turns warnings into errors, as CI=true does; --portable builds the host's code for
# every processor; --tests builds tests/gpu as well (ctest --test-dir build/cuda -L gpu).
#
# LibTorch for CUDA, NCCL and the CUDA compiler come from pip into one environment of 6 GB
# that all clones share (scripts/install.sh --help says where); they are not looked for
# elsewhere on the machine. A first build takes about 20 minutes on two cores, with the
# tests; the next ones are short, by ccache and Ninja. The program finds the libraries by
# their path in that environment.
source "$(dirname "$0")/lib.sh"

werror=OFF
[ "${CI:-}" != true ] || werror=ON
targets=(switchyard)
settings=(-DBUILD_TESTING=OFF)
for option in "$@"; do
  case "$option" in
    --werror) werror=ON ;;
    --portable) settings+=(-DSWITCHYARD_NATIVE=OFF) ;;
    --tests) targets+=(gpu_tests) && settings+=(-DBUILD_TESTING=ON) ;;
    --help) usage && exit ;;
    *) fail "unknown option $option; see --help" ;;
  esac
done

scripts/install.sh --cuda
if [ ${#targets[@]} -gt 1 ]; then scripts/install.sh --tests; fi

environment=$(cuda_environment)
packages=$(cuda_packages)
toolkit=$packages/nvidia/cu13
# CMake keeps the paths that it found: another environment starts afresh.
if [ "$(cat build/cuda/environment 2> /dev/null)" != "$environment" ]; then
  settings+=(--fresh)
fi
unset CUDA_HOME CUDA_PATH CUDACXX NVCC_PREPEND_FLAGS NVCC_APPEND_FLAGS
"$environment/bin/cmake" --preset cuda "-DSWITCHYARD_WERROR=$werror" "${settings[@]}" \
  "-DCMAKE_PREFIX_PATH=$packages/torch/share/cmake" "-DCMAKE_CUDA_COMPILER=$toolkit/bin/nvcc" \
  "-DCUDA_TOOLKIT_ROOT_DIR=$toolkit" "-DNCCL_ROOT=$packages/nvidia/nccl"
echo "$environment" > build/cuda/environment
"$environment/bin/cmake" --build build/cuda --target "${targets[@]}"
