#!/usr/bin/env bash
# The database on the replicated disk, as one thing that runs on one of two nodes.
#
# usage: examples/postgresql/database.sh start      here: take the disk, recover and mount its file system, start PostgreSQL
#        examples/postgresql/database.sh stop       stop PostgreSQL, unmount, become secondary
#
# Both can be repeated. `start` is the whole failover: call it where the database is to go on, when the other node is
# known to be dead or has stopped it. Cluster software (keepalived, ucarp, Pacemaker) can call this script as it is.
#
# Names can be given by the environment: RESOURCE, MOUNTPOINT, and VERSION and CLUSTER of pg_lsclusters(1).
set -euo pipefail

resource=${RESOURCE:-shared}
mountpoint=${MOUNTPOINT:-/srv/shared}
version=${VERSION:-15}
cluster=${CLUSTER:-shared}
device=/dev/hast/$resource
PATH=$PATH:/usr/sbin:/sbin

fail() { printf 'database: %s\n' "$*" >&2; exit 1; }
runs() { [ -d "$mountpoint/postgresql" ] && pg_ctlcluster "$version" "$cluster" status >/dev/null; }

start() {
    local code=0
    hastctl role --wait primary "$resource"
    if ! mountpoint -q "$mountpoint"; then
        e2fsck -p "$device" || code=$? # 1: it has mended something
        [ "$code" -le 1 ] || fail "e2fsck -p $device ended with $code: look at it before you go on"
        mkdir -p "$mountpoint"
        mount -o noatime "$device" "$mountpoint"
    fi
    runs || pg_ctlcluster "$version" "$cluster" start
}

stop() {
    ! runs || pg_ctlcluster "$version" "$cluster" stop -- --mode=fast
    ! mountpoint -q "$mountpoint" || umount "$mountpoint"
    hastctl role secondary "$resource"
}

case ${1:-} in
    start | stop) "$1" ;;
    *)
        sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
        exit 64
        ;;
esac
