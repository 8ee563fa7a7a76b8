#!/usr/bin/env bash
# Does all the set-up and runs the tests: all of them, or what the arguments (pytest's) say.
#
# HASTFS_TESTS=unprivileged skips the tests that need root, /dev/fuse and loop devices.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$top/tools/setup.sh" test
cd "$top"
export PATH=$PATH:/usr/sbin:/sbin
pytest() { "${HASTFS_VENV:-$top/.venv}/bin/python" -m pytest "$@" </dev/null; }

if [ $# -gt 0 ]; then
    pytest "$@"
    exit
fi

# In two lanes at the same time: those with real processes mostly wait, those without mostly compute. The second lane's
# output comes when the first is over.
second=$(mktemp)
trap 'rm -f "$second"' EXIT
{
    failed=0
    pytest -p no:cacheprovider tests/unit tests/property tests/simulation tests/fuzz || failed=$?
    pytest -p no:cacheprovider --durations=10 tests/interop tests/powerloss tests/packaging tests/guests tests/ha || failed=$?
    exit "$failed"
} >"$second" 2>&1 &
failed=0
pytest --durations=20 tests/kernel || failed=$?
wait $! || failed=$?
cat "$second"
exit "$failed"
