#!/usr/bin/env bash
# Installs the frameworks that scripts/bench.sh compares with, into .venv-peers:
#
#   scripts/bench/install_peers.sh
#
# PyTorch, Hugging Face transformers and DeepSpeed at pinned versions
# (third_party/requirements-peers.txt), torchtitan in a folder of its own, and tcmalloc from
# Debian, which peers run faster with. About 2 GB and 3 minutes, under a second when nothing
# is missing. Tutel is on no package index: with TUTEL_SOURCE=FOLDER, a copy of its source,
# it is built too; without, it is left out of the comparison.
source "$(dirname "$0")/../lib.sh"
[ "${1:-}" != --help ] || { usage && exit; }

venv=.venv-peers
lists=(third_party/requirements.txt third_party/requirements-peers.txt)

packages=(libtcmalloc-minimal4 python3-dev) # DeepSpeed compiles against it
if ! dpkg-query --show "${packages[@]}" > /dev/null 2>&1; then
  apt=(env DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes)
  [ "$(id -u)" -eq 0 ] || apt=(sudo "${apt[@]}")
  "${apt[@]}" update
  "${apt[@]}" install --no-install-recommends "${packages[@]}"
fi

wanted=$(cat "${lists[@]}")
if [ "$(cat $venv/installed 2> /dev/null)" != "$wanted" ]; then
  /usr/bin/python3 -m venv --clear $venv
  pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
  "${pip[@]}" --requirement third_party/requirements.txt setuptools wheel ninja
  # DeepSpeed's build looks for the torch that is there.
  DS_ACCELERATOR=cpu DS_BUILD_OPS=0 "${pip[@]}" --no-build-isolation \
    --requirement third_party/requirements-peers.txt --constraint third_party/requirements.txt
  # A folder of its own: it wants a triton that must not stand beside PyTorch for the CPU.
  "${pip[@]}" --no-deps --target $venv/torchtitan torchtitan==0.3.0 spmd_types==0.2.3 triton==3.9.0
  # DeepSpeed compiles these at its first step, which would time out.
  DS_ACCELERATOR=cpu $venv/bin/python -c 'from deepspeed.accelerator import get_accelerator
for op in ("ShareMemCommBuilder", "CPUAdamBuilder"):
    get_accelerator().create_op_builder(op).load()'
  printf '%s\n' "$wanted" > $venv/installed
fi

if [ -n "${TUTEL_SOURCE:-}" ] && ! $venv/bin/python -c 'import tutel' 2> /dev/null; then
  $venv/bin/python -m pip install --quiet --no-build-isolation --no-deps "$TUTEL_SOURCE"
fi
$venv/bin/python -c 'import tutel' 2> /dev/null ||
  echo "Tutel is not here (see TUTEL_SOURCE in $0): it is left out"
