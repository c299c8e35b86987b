#!/usr/bin/env bash
# Runs a launcher so that a scheduler's request to stop ends in a checkpoint:
#
#   scripts/launch.sh mpirun -n 4 build/release/switchyard train run.yaml
#
# mpirun answers SIGTERM by ending its ranks within two seconds, too soon for a save.
# It forwards SIGUSR1 at once and ends nobody, so here SIGTERM, SIGINT (Ctrl-C) and
# SIGUSR1 become that: the run saves at the end of its step and exits with 85; started
# again, it goes on from there. The exit code is the launcher's.
set -uo pipefail

if [ $# -eq 0 ] || [ "$1" = --help ]; then
  sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"
  exit 2
fi

set -m # a process group of its own: Ctrl-C reaches this script alone
"$@" &
launcher=$!
trap 'kill -USR1 "$launcher" 2>/dev/null' TERM INT USR1

# A trapped signal ends `wait` early; then the launcher is still there.
while kill -0 "$launcher" 2>/dev/null; do
  wait "$launcher"
done
wait "$launcher"
