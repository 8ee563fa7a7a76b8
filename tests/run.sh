#!/usr/bin/env bash
# Does all the set-up and runs the tests: all of them, or what the arguments (pytest's) say.
#
# HASTFS_TESTS=unprivileged skips the tests that need root, /dev/fuse and loop devices.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$top/tools/setup.sh" test
cd "$top"
export PATH=$PATH:/usr/sbin:/sbin
exec "${HASTFS_VENV:-$top/.venv}/bin/python" -m pytest "$@" </dev/null
