# shellcheck shell=bash
# Sourced by the other scripts: they start at the root of the repository, stop at
# the first error, and share the few functions below.
set -euo pipefail
# shellcheck disable=SC2034  # for scripts that are given paths
called_from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Open MPI refuses to run as root unless told twice, as in a container.
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# The comment at the top of the script is its manual.
usage() {
  sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"
}

# The packages or requirements of a list, without comments.
entries() {
  sed 's/#.*//; /^[[:space:]]*$/d' "$@"
}

# What scripts/install.sh --cuda installs; another list, of another LibTorch, may be named.
cuda_list=${SWITCHYARD_CUDA_LIST:-third_party/requirements-cuda.txt}

# Where it does, for every clone: one folder for each list.
cuda_environment() {
  local hash
  hash=$(sha256sum "$cuda_list")
  echo "${XDG_CACHE_HOME:-$HOME/.cache}/switchyard/cuda-${hash:0:12}"
}

# The folder of its Python packages.
cuda_packages() {
  echo "$(cuda_environment)"/lib/python3.*/site-packages
}

# mpi_run RANKS PROGRAM...: on this machine. Not bound to cores, since a rank uses
# several when there are more cores than ranks; --oversubscribe, since Open MPI
# counts whole cores and not their hardware threads.
mpi_run() {
  local ranks=$1
  shift
  mpirun --bind-to none --oversubscribe -n "$ranks" "$@"
}

# stage TITLE COMMAND...: a header, the command, and the time it took.
stage() {
  local title=$1 start=$SECONDS
  shift
  printf '\n== %s\n' "$title"
  "$@"
  printf -- '-- %ds\n' $((SECONDS - start))
}
