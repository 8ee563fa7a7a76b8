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

# Those with real processes mostly wait, those without mostly compute: at the same time they take half as long.
computing=$(mktemp)
trap 'rm -f "$computing"' EXIT
pytest -p no:cacheprovider tests/unit tests/property tests/simulation tests/fuzz >"$computing" 2>&1 &
failed=0
pytest tests/kernel tests/interop tests/powerloss || failed=$?
wait $! || failed=$?
cat "$computing"
exit "$failed"
