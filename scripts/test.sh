#!/bin/sh
# Runs the tests: two files at a time, then one at a time those that compare times or memory. Arguments go to pytest.
set -u
python=$1
shift
none=5 # What pytest answers when it was given no test to run.

echo "tympan: running the tests, two files at a time"
"$python" -m pytest -n 2 --dist loadfile -m "not long and not alone" "$@"
many=$?
[ "$many" -eq 0 ] || [ "$many" -eq "$none" ] || exit "$many"

echo "tympan: running those that need the machine for themselves"
"$python" -m pytest -m "alone and not long" "$@"
few=$?
[ "$few" -eq "$none" ] && few=$many
exit "$few"
