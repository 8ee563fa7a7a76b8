#!/usr/bin/env bash
# Two machines on this one, to try things that take two: alpha (192.0.2.1) and beta (192.0.2.2).
#
# usage: examples/machines.sh on NAME ...              switch machines on (made at the first time)
#        examples/machines.sh run NAME COMMAND ...     run a command on one; without COMMAND a shell
#        examples/machines.sh off NAME ...             cut the power: everything dies at once, the disk stays
#        examples/machines.sh remove                   switch all off and forget their disks
#
# A machine is a set of namespaces: network, processes, mounts and host name of its own; and control groups, in which its
# containers are. It sees the programs and files of this machine; what it changes goes to a layer of its own (overlayfs)
# in memory. The kernel, and with it loop devices, is shared, as are the clock and the users. Whatever mounts a machine
# holds end with its processes, and cannot reach the other machine: the cable goes first.
#
# HAST_MACHINES names the folder for all that (default: /run/hast-machines); its last part must be unlike any other's.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${HASTFS_VENV:-$top/.venv}
state=${HAST_MACHINES:-/run/hast-machines}
prefix=$(basename "$state")
names=(alpha beta)
PATH=$PATH:/usr/sbin:/sbin

fail() { printf 'machines: %s\n' "$*" >&2; exit 1; }

# ---- the network: a switch with a cable to each machine -------------------------------------------------------------

network() { printf '%s-%s' "$prefix" "$1"; }

# The switch outlives its machines, so that the one that goes on sees no more than a silent cable.
make_switch() {
    ip netns add "$(network switch)"
    ip -n "$(network switch)" link add switch type bridge
    ip -n "$(network switch)" link set switch up
    local number
    for number in "${!names[@]}"; do
        local name=${names[number]}
        ip netns add "$(network "$name")"
        ip -n "$(network "$name")" link set lo up
        ip -n "$(network "$name")" link add eth0 type veth peer name "$name" netns "$(network switch)"
        ip -n "$(network "$name")" addr add "192.0.2.$((number + 1))/24" dev eth0
        ip -n "$(network "$name")" link set eth0 up
        ip -n "$(network switch)" link set "$name" master switch
    done
}

cable() { ip -n "$(network switch)" link set "$1" "$2"; }

# ---- its control groups: containers that are called alike on two machines do not meet there ---------------------------

# groups_of PID: their folders. A hierarchy that is not mounted here is left out.
groups_of() {
    local controllers path folder
    while IFS=: read -r _ controllers path; do
        folder=/sys/fs/cgroup/${controllers#name=}
        [ -n "$controllers" ] || [ ! -d /sys/fs/cgroup/unified ] || folder=/sys/fs/cgroup/unified
        [ ! -e "$folder$path/cgroup.procs" ] || printf '%s\n' "$folder${path%/}"
    done <"/proc/$1/cgroup"
}

# enter GROUP ...: with this process. Not where groups cannot be changed: then there are no containers either.
enter() {
    local group
    for group in "$@"; do
        { echo "$BASHPID" >"$group/cgroup.procs"; } 2>/dev/null || :
    done
}

# Containers are made below the group of their maker, or beside it (cgroup v2).
enter_own_groups() {
    local outer group file
    for outer in $(groups_of "$BASHPID"); do
        for group in "$outer/$prefix-$1" "$outer/$prefix-$1/self"; do
            mkdir "$group" 2>/dev/null || [ -d "$group" ] || continue 2
            for file in cpuset.cpus cpuset.mems; do # a new group has none
                [ ! -e "$outer/$file" ] || { cat "$outer/$file" >"$group/$file"; } 2>/dev/null || :
            done
        done
        enter "$group"
    done
}

remove_groups() {
    local group
    for group in "$@"; do
        [ "$(basename "$group")" = self ] || continue
        group=$(dirname "$group")
        case $(basename "$group") in "$prefix"-*) ;; *) continue ;; esac
        # A process lets go of them a moment after its end.
        timeout 10 bash -c 'until find "$0" -depth -type d -exec rmdir {} + 2>/dev/null || [ ! -e "$0" ]; do sleep 0.05; done' "$group"
    done
}

# ---- a machine ------------------------------------------------------------------------------------------------------

known() {
    local name
    for name in "${names[@]}"; do [ "$name" != "$1" ] || return 0; done
    fail "there is no machine '$1': they are ${names[*]}"
}

# first_process NAME: the pid of its process 1, seen from here; fails if it is off.
first_process() {
    local pid
    pid=$(cat "$state/$1/pid" 2>/dev/null) || return 1
    # Pids are used again: it has to be the one that was started.
    [[ "$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline")" = *" boot $state/$1 " ]] || return 1
    printf '%s' "$pid"
}

make() {
    [ ! -e "$state" ] || return 0
    [ "$(id -u)" = 0 ] || fail "only root can make machines"
    mkdir -p "$state"
    mount -t tmpfs -o mode=755 machines "$state"
    local name
    for name in "${names[@]}"; do mkdir -p "$state/$name"/{disk,work,root,devices}; done
    # hastd takes /dev/hast away when it is empty, also from under the machines.
    until mkdir -p /dev/hast && touch "/dev/hast/.$prefix"; do :; done
    make_switch
}

# Process 1 comes here, in its namespaces: what a machine does from power on to the first login.
boot() {
    local base=$1 root=$1/root place
    mount --make-rprivate /
    mount -t overlay -o "lowerdir=/,upperdir=$base/disk,workdir=$base/work" machine "$root"
    mount --rbind /dev "$root/dev"
    mount --bind "$base/devices" "$root/dev/hast"
    mount --rbind /sys "$root/sys"
    # Beside cgroup v1 it is of no use, and runc would make its groups at the root of it.
    umount -l "$root/sys/fs/cgroup/unified" 2>/dev/null || :
    mount -t proc proc "$root/proc"
    mount -t tmpfs -o mode=755 run "$root/run"
    mkdir "$root/run/lock"
    for place in "$top" "$venv"; do # they may be on file systems of their own
        [ -d "$place" ] || continue # a package needs no virtual environment
        [ -e "$root$place" ] || mkdir -p "$root$place"
        mount --rbind "$place" "$root$place"
    done
    hostname "$(basename "$base")"
    printf '127.0.0.1 localhost\n192.0.2.1 alpha\n192.0.2.2 beta\n' >"$root/etc/hosts"
    cd "$root"
    pivot_root . mnt
    cd /
    umount -l /mnt
    mount --make-rshared / # as systemd does: what is mounted later can reach containers
    touch /run/booted
    # Whoever loses its parent becomes a child of process 1, and bash takes care of all its children.
    while :; do
        sleep infinity &
        wait $! || :
    done
}

on() {
    local name=$1 base=$state/$1 outer pid
    ! first_process "$name" >/dev/null || return 0
    cable "$name" up
    {
        enter_own_groups "$name"
        exec nsenter --net="/run/netns/$(network "$name")" \
            unshare --mount --uts --ipc --pid --fork --kill-child \
            setsid bash "${BASH_SOURCE[0]}" boot "$base"
    } >"$base/console" 2>&1 </dev/null &
    outer=$!
    until pid=$(pgrep -P "$outer") && [ -e "/proc/$pid/root/run/booted" ] && echo "$pid" >"$base/pid" &&
        first_process "$name" >/dev/null; do
        kill -0 "$outer" 2>/dev/null || fail "$name does not start: $(cat "$base/console")"
        sleep 0.02
    done
    disown
}

run() {
    local name=$1 pid groups
    shift
    pid=$(first_process "$name") || fail "$name is off"
    [ $# -gt 0 ] || set -- bash
    mapfile -t groups < <(groups_of "$pid")
    enter "${groups[@]}"
    exec nsenter --target "$pid" --mount --uts --ipc --net --pid --root --wd -- \
        env -u HAST_MACHINES HOME=/root PATH="$venv/bin:$PATH" sh -c 'cd "$0" && exec "$@"' "$top" "$@"
}

off() {
    local name=$1 base=$state/$1 pid link loop loops=() groups
    cable "$name" down
    pid=$(first_process "$name") || return 0
    for link in "$base/devices"/*; do
        [ ! -L "$link" ] || loops+=("$(readlink "$link")")
    done
    mapfile -t groups < <(groups_of "$pid")
    kill -KILL "$pid"
    while first_process "$name" >/dev/null || [ -e "/proc/$pid/stat" ]; do sleep 0.02; done # it is the last one to go
    remove_groups "${groups[@]}"
    rm -f "$base/pid" "$base/devices"/*
    # Devices outlive namespaces. One that can be read is free, or was given to another machine meanwhile.
    for loop in "${loops[@]}"; do
        dd if="$loop" of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null || losetup -d "$loop" 2>/dev/null || :
    done
}

remove() {
    [ -d "$state" ] || return 0
    local name
    for name in "${names[@]}"; do off "$name"; done
    for name in "${names[@]}" switch; do ip netns del "$(network "$name")"; done
    rm -f "/dev/hast/.$prefix"
    rmdir /dev/hast 2>/dev/null || :
    # The kernel lets go of what a dead machine had mounted a moment after its last process.
    timeout 10 bash -c 'until umount "$0" 2>/dev/null; do sleep 0.05; done' "$state" || umount "$state"
    rmdir "$state"
}

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

word=${1:-}
shift || :
case $word in
    boot) boot "$1" ;;
    run)
        [ $# -gt 0 ] || { usage >&2; exit 64; }
        known "$1"
        run "$@"
        ;;
    on | off)
        [ $# -gt 0 ] || { usage >&2; exit 64; }
        for name in "$@"; do known "$name"; done
        make
        for name in "$@"; do "$word" "$name"; done
        ;;
    remove) remove ;;
    *)
        usage >&2
        exit 64
        ;;
esac
