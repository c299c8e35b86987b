#!/usr/bin/env bash
# failing_rank_test.sh PROGRAM WHO RANKS EXIT_CODE MESSAGE
#
# Runs `PROGRAM WHO` under mpirun: it must end with EXIT_CODE, and stderr must
# hold the line "switchyard: MESSAGE" exactly once. CTest's limit catches a hang.
set -u
program=$1 who=$2 ranks=$3 exit_code=$4 message=$5

errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
mpirun --oversubscribe -n "$ranks" "$program" "$who" 2>"$errors"
code=$?

lines=$(grep -cF "switchyard: " "$errors")
exact=$(grep -cxF "switchyard: $message" "$errors")
if [ "$code" -eq "$exit_code" ] && [ "$lines" -eq 1 ] && [ "$exact" -eq 1 ]; then exit 0; fi
echo "exit code $code, expected $exit_code; $lines messages, expected one: $message"
cat "$errors"
exit 1
