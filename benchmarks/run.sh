#!/usr/bin/env bash
# Does all the set-up and measures: everything, or the parts named. See benchmarks/README.md.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PATH=$PATH:/usr/sbin:/sbin

# The peers and the tools that measure, from Debian. What cannot be installed is left out of the table.
missing=()
need() { command -v "$1" >/dev/null || [ -x "/usr/lib/postgresql/15/bin/$1" ] || missing+=("${@:2}"); }
need fio fio
need qemu-storage-daemon qemu-system-common qemu-block-extra
need nbdkit nbdkit
need nbdcopy libnbd-bin
need glusterd glusterfs-server glusterfs-client
need sqlite3 sqlite3
need pgbench postgresql postgresql-contrib
need mkfs.xfs xfsprogs
if [ ${#missing[@]} -gt 0 ]; then
    echo "benchmarks: installing ${missing[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q </dev/null >/dev/null || true
    for package in "${missing[@]}"; do
        apt-get install -y -q --no-install-recommends "$package" </dev/null >/dev/null 2>&1 ||
            echo "benchmarks: no package $package here" >&2
    done
fi

[ -n "${HASTFS_VENV:-}" ] && [ -x "$HASTFS_VENV/bin/python" ] && [ -n "${BENCHMARKS_NO_SETUP:-}" ] || "$top/tools/setup.sh" >&2
cd "$top"
exec "${HASTFS_VENV:-$top/.venv}/bin/python" -m benchmarks "$@" </dev/null
