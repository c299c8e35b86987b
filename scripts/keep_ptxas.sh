#!/usr/bin/env bash
# CMake's launcher for nvcc: runs it, keeps what ptxas tells of the kernels in OBJECT.ptxas,
# for scripts/ptxas_report.py, and passes the other messages on.
object=""
for ((i = 1; i < $#; i++)); do
  next=$((i + 1))
  [ "${!i}" != -o ] || object=${!next}
done
{ messages=$("$@" 2>&1 1>&3); } 3>&1
status=$?
told='^ptxas info |^ +[0-9]+ bytes stack frame'
[ -z "$object" ] || grep -E "$told" <<< "$messages" > "$object.ptxas"
[ -z "$messages" ] || grep -vE "$told" <<< "$messages" >&2
exit $status
