#!/bin/sh
# Fence by a witness: a directory that both nodes reach by another way than the replication link (NFS, for example).
# Whoever goes on alone claims the resource there; the other one then finds that it must not.
#
# hast.conf, the same on both nodes:   fence /etc/hast/witness.sh
#                                      exec  /etc/hast/witness.sh
#
# Called as `witness.sh fence RESOURCE PEER REASON`, and as an `exec` program as `witness.sh EVENT RESOURCE ...`.
# Nothing is stopped by it: a primary that is cut off from witness and peer holds its I/O, because the call fails.

witness=${HAST_WITNESS:-/srv/hast-witness}
node=${HAST_NODE:-$(uname -n)}
claim=$witness/$2

case $1 in
fence)
    # One call of symlink(2): only one of two nodes that try at the same time is successful.
    ln -s "$node" "$claim" 2>/dev/null
    owner=$(readlink "$claim") || exit 1 # there is no witness: it failed, hastd tries again
    [ "$owner" = "$node" ] || exit 6     # the other node goes on, or has gone on: its data counts
    sync "$witness" || exit 1
    exit 4                               # marked: the other node will not start without us
    ;;
connect)
    # Both are one again, and a secondary that lacks something knows it: whoever had the claim gives it up.
    if [ "$(readlink "$claim")" = "$node" ]; then
        rm "$claim"
    fi
    ;;
esac
