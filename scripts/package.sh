#!/usr/bin/env bash
# Builds the Debian package build/package/switchyard_VERSION_ARCHITECTURE.deb:
#
#   scripts/package.sh [--native] [--torch FOLDER] [--maintainer "NAME <MAIL>"]
#
# The program in it runs on any processor of this architecture: it is built once more, in
# build/portable, without -march=native, which takes as long as a first build. --native
# packs build/release instead, for machines that have what this one's processor has.
#
# LibTorch is not packed. --torch is the folder of its libraries on the machines that
# install the package; by default where it lies here, in .venv. docs/packages.md has the rest.
# Needs dpkg-dev and file.
source "$(dirname "$0")/lib.sh"

native=OFF
settings=()
maintainer="${DEBFULLNAME:-$(id -un)} <${DEBEMAIL:-$(id -un)@$(hostname)}>"
while [ $# -gt 0 ]; do
  case "$1" in
    --native) native=ON && shift ;;
    --torch) settings+=("-DSWITCHYARD_TORCH_DIR=$2") && shift 2 ;;
    --maintainer) maintainer=$2 && shift 2 ;;
    --help) usage && exit ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done
for tool in dpkg-shlibdeps file; do
  command -v "$tool" > /dev/null || fail "needs $tool: apt-get install dpkg-dev file"
done

scripts/install.sh
folder=build/portable
if [ "$native" = ON ]; then
  folder=build/release
  [ -e "$folder/build.ninja" ] || scripts/build.sh
else
  torch=$(echo .venv/lib/python3.*/site-packages/torch/share/cmake)
  cmake --preset release -B "$folder" -DSWITCHYARD_NATIVE=OFF -DBUILD_TESTING=OFF \
    "-DCMAKE_PREFIX_PATH=$PWD/$torch"
fi
cmake "$folder" "-DSWITCHYARD_MAINTAINER=$maintainer" "${settings[@]}"
cmake --build "$folder" --target switchyard switchyard_help
mkdir -p build/package
cpack --config "$folder/CPackConfig.cmake" -B build/package
