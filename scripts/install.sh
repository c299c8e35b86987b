#!/usr/bin/env bash
# Installs what building and running Switchyard needs and this machine lacks:
#
#   scripts/install.sh [--tests | --smollm2 | --cuda]
#
# Debian packages from third_party/apt-packages.txt (as root or through sudo), and
# .venv at the root of the repository with third_party/requirements.txt: LibTorch
# for the CPU, which is PyTorch's pip wheel, and the two Python packages of
# scripts/train_tokenizer.py. --tests adds what scripts/test.sh needs, --smollm2 what
# scripts/fetch_smollm2.sh does. Costs about 2 GB of disk and 3 minutes on a bare
# Debian 12, under a second when nothing is missing. SWITCHYARD_PYTHON=... chooses the Python (3.11 or newer) of the venv.
#
# --cuda installs for scripts/build_cuda.sh instead of .venv an environment with
# third_party/requirements-cuda.txt: LibTorch for CUDA 13, NCCL and the compiler, no GPU needed.
# That is 6 GB, so every clone shares it: ~/.cache/switchyard/cuda-HASH (or in
# XDG_CACHE_HOME), with a hash of the list; delete the folder of a list that is no longer used.
source "$(dirname "$0")/lib.sh"

package_lists=(third_party/apt-packages.txt)
requirements=(third_party/requirements.txt)
case "${1:-}" in
  "") ;;
  --tests)
    package_lists+=(third_party/apt-test-packages.txt)
    requirements+=(tests/python/requirements.txt)
    ;;
  --cuda) requirements=() ;;
  --smollm2) requirements+=(third_party/requirements-smollm2.txt) ;;
  --help) usage && exit ;;
  *) fail "unknown option $1; see --help" ;;
esac

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo > /dev/null; then
    sudo "$@"
  else
    fail "needs root (or sudo) for: $*"
  fi
}

is_installed() {
  [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2> /dev/null)" = installed ]
}

install_packages() {
  local package missing=()
  while read -r package; do
    is_installed "$package" || missing+=("$package")
  done < <(entries "${package_lists[@]}")
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get > /dev/null || fail "no apt-get here; install by hand: ${missing[*]}"
  echo "installing ${missing[*]}"
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 --quiet --yes)
  as_root "${apt[@]}" update
  as_root "${apt[@]}" install --no-install-recommends "${missing[@]}"
}

# Debian's own python3 first: it has the version that the pins were tried with.
find_python() {
  local python
  for python in ${SWITCHYARD_PYTHON:-/usr/bin/python3 python3}; do
    if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
      2> /dev/null; then
      echo "$python"
      return
    fi
  done
  fail "no Python >= 3.11 with venv and ensurepip; set SWITCHYARD_PYTHON to one"
}

# install_requirements LIST PIP-OPTION...: a list that is in .venv already, comment for
# comment, has its copy there.
install_requirements() {
  local list=$1 python=.venv/bin/python
  local installed=.venv/installed/${1//\//-}
  shift
  if "$python" -c '' 2> /dev/null && cmp --silent "$list" "$installed"; then
    return
  fi
  if ! "$python" -c '' 2> /dev/null; then
    local base_python
    base_python=$(find_python)
    echo "making .venv with $base_python"
    "$base_python" -m venv --clear .venv
  fi
  echo "installing $list"
  "$python" -m pip install --quiet --disable-pip-version-check --requirement "$list" \
    "$@" || fail \
    "pip could not install $list." \
    "If it did not find torch +cpu: pip's default index has only the CUDA build; add" \
    "PyTorch's CPU index, named on its 'Get started' page, as PIP_EXTRA_INDEX_URL."
  mkdir -p .venv/installed
  cp "$list" "$installed"
}

# CMake looks for a toolkit's libraries under names that pip's packages lack.
link_toolkit() {
  local toolkit=$1 library
  ln -sfn lib "$toolkit/lib64"
  for library in "$toolkit"/lib/lib*.so.*; do
    ln -sf "$(basename "$library")" "${library%%.so.*}.so"
  done
}

# All or nothing, by one at a time: what stopped halfway is made anew.
install_cuda() {
  local environment base_python
  environment=$(cuda_environment)
  mkdir -p "$(dirname "$environment")"
  exec 9> "$environment.lock"
  flock 9
  if ! { [ -e "$environment/complete" ] && "$environment/bin/python" -c '' 2> /dev/null; }; then
    base_python=$(find_python)
    echo "installing $cuda_list into $environment with $base_python: 6 GB, a few minutes"
    "$base_python" -m venv --clear "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir \
      --requirement "$cuda_list" || fail "pip could not install $cuda_list"
    link_toolkit "$(cuda_packages)/nvidia/cu13"
    touch "$environment/complete"
  fi
  exec 9>&-
}

install_packages
if [ "${1:-}" = --cuda ]; then install_cuda; fi
for list in "${requirements[@]}"; do
  install_requirements "$list" --constraint third_party/requirements.txt
done
if [ "${1:-}" = --tests ]; then
  install_requirements tests/python/requirements-transformers4.txt \
    --no-deps --upgrade --target .venv/transformers4
fi
