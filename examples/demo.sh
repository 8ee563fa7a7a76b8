#!/usr/bin/env bash
# One disk on two nodes, on this one machine: made, used, lost on one node, taken over, brought back, compared.
#
# Run it as root. It installs what is missing (see tools/setup.sh), says what it does and what came of it, ends with an
# error if anything is not as it should be, and leaves nothing behind but the virtual environment. HASTFS_BIN names the
# folder of a hastd that is installed already; then, and as part of a package, it installs nothing.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PATH=$PATH:/usr/sbin:/sbin
device=/dev/hast/demo
work=
declare -A pid=() port=()

bold=; plain=
[ -t 1 ] && { bold=$'\033[1m'; plain=$'\033[0m'; }
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '  %s\n' "$*"; }
fail() { printf '\nNOT AS IT SHOULD BE: %s\n' "$*" >&2; exit 1; }

# ---- taking everything away again, whatever happened ----------------------------------------------------------------

# The loop devices whose image is below the demo's folder; their image may be long dead.
our_loops() {
    local backing
    for backing in /sys/block/loop*/loop/backing_file; do
        case $(cat "$backing" 2>/dev/null) in
            "$work"/*) basename "$(dirname "$(dirname "$backing")")" ;;
        esac
    done
}

our_mounts() { awk -v work="$work/" 'index($5, work) == 1 { print $5 }' /proc/self/mountinfo | tac; }

# alive SESSION, ended SESSION: is a process of it left (one that is no zombie)?
alive() { ps -o stat= -s "$1" | grep -qv '^Z'; }
ended() { ! alive "$1"; }

# kill_node NAME: its hastd and every worker process at once, as a power failure would.
kill_node() {
    local session=${pid[$1]:-} deadline=$((SECONDS + 10))
    [ -n "$session" ] || return 0
    unset "pid[$1]"
    {
        while alive "$session"; do
            [ "$SECONDS" -lt "$deadline" ] || return 1
            pkill -KILL -s "$session" || true
            sleep 0.05
        done
        wait "$session" || true
    } 2>/dev/null # bash wants to tell that the process was killed
}

# Is there a device of that name with a life of its own? A link to a free loop device is a dead node's.
device_in_use() { [ -L "$device" ] && [ -e "/sys/block/$(basename "$(readlink "$device")")/loop" ]; }

clean_up() {
    local status=$? loop mount log
    trap - EXIT INT TERM HUP
    set +e
    [ -n "$work" ] || exit "$status"
    if [ "$status" -ne 0 ]; then
        for log in "$work"/*/hastd.log; do
            [ -e "$log" ] && { printf '\n--- the end of %s\n' "$log"; tail -n 25 "$log"; } >&2
        done
    fi
    [ -n "${writer:-}" ] && kill "$writer" 2>/dev/null
    kill_node first
    kill_node second
    umount "$work/disk" 2>/dev/null
    for loop in $(our_loops); do losetup -d "/dev/$loop"; done
    for mount in $(our_mounts); do umount "$mount" || umount -l "$mount"; done
    device_in_use || rm -f "$device"
    rmdir /dev/hast 2>/dev/null
    rm -rf "$work"
    exit "$status"
}

# ---- the words of the story -----------------------------------------------------------------------------------------

# ctl NODE COMMAND [ARGUMENT ...]
ctl() {
    local node=$1 command=$2
    shift 2
    "$bin/hastctl" "$command" -c "$work/$node/hast.conf" "$@"
}

status_of() { ctl "$1" status demo 2>/dev/null | awk '$1 == "demo" { print $2 }'; }
dirty_of() { ctl "$1" list demo 2>/dev/null | awk '$1 == "dirty:" { print $2 }'; }
field() { ctl "$1" dump demo | awk -v key="$2:" '$1 == key { print $2 }'; }
show_status() { ctl "$1" status demo | sed 's/^/    /'; }

# wait_until SECONDS WHAT COMMAND ...: tries the command until it succeeds.
wait_until() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || fail "waited in vain: $what"
        sleep 0.2
    done
}

answers() { ctl "$1" status >/dev/null 2>&1; }
has_status() { [ "$(status_of "$1")" = "$2" ]; }
heard() { grep -q "^$2 demo" "$work/$1/events" 2>/dev/null; }

write_config() {
    local node=$1 other=$2 folder=$work/$1
    mkdir "$folder"
    printf '#!/bin/sh\necho "$*" >> %s\n' "$folder/events" >"$folder/hook"
    chmod +x "$folder/hook"
    cat >"$folder/hast.conf" <<EOF
control $folder/hastctl
pidfile $folder/hastd.pid
listen tcp4://127.0.0.1:${port[$node]}
mountdir $folder/run
replication memsync
timeout 10

resource demo {
    local $folder/component
    exec $folder/hook
    on $(uname -n) {
        remote tcp4://127.0.0.1:${port[$other]}
    }
}
EOF
}

# A session of its own for every node, so that all its processes can be found and killed.
start_node() {
    TMPDIR=$work setsid "$bin/hastd" -F -c "$work/$1/hast.conf" >>"$work/$1/hastd.log" 2>&1 </dev/null &
    pid[$1]=$!
    wait_until 20 "hastd of the $1 node answers" answers "$1"
}

# stop_node NAME: SIGTERM, as an init system would.
stop_node() {
    local session=${pid[$1]}
    kill -TERM "$session"
    wait "$session" || fail "hastd of the $1 node ended with an error"
    unset "pid[$1]"
    wait_until 5 "the last process of the $1 node ends" ended "$session"
}

# write_files PREFIX NUMBER SIZE: random files with their checksums in $work/sums; each is flushed before it counts.
write_files() {
    local number name
    for number in $(seq "$2"); do
        name=$1-$number
        head -c "$3" /dev/urandom >"$work/disk/$name" || return 1
        sync "$work/disk/$name" || return 1
        (cd "$work/disk" && sha256sum "$name") >>"$work/sums" || return 1
    done
}

check_files() {
    (cd "$work/disk" && sha256sum --quiet -c "$work/sums") || fail "files are lost or changed"
    say "All $(wc -l <"$work/sums") files that were ever flushed are there, with the right checksums."
}

check_file_system() {
    e2fsck -f -n "$device" >"$work/fsck" 2>&1 || { cat "$work/fsck"; fail "e2fsck finds the file system damaged"; }
}

# ---- the story ------------------------------------------------------------------------------------------------------

prepare() {
    [ "$(id -u)" = 0 ] || fail "the demo has to be run as root: it mounts, and it makes devices"
    bin=${HASTFS_BIN:-${HASTFS_VENV:-$top/.venv}/bin}
    if [ -z "${HASTFS_BIN:-}" ] && [ -e "$top/tools/setup.sh" ]; then
        "$top/tools/setup.sh"
    elif [ -z "${HASTFS_BIN:-}" ]; then
        bin=$(dirname "$(command -v hastd)") || fail "there is no hastd on this machine"
    fi
    ! device_in_use || fail "$device is there already: a resource named demo is in use on this machine"
    work=$(mktemp -d /tmp/hastfs-demo.XXXXXX)
    mkdir "$work/disk"
    read -r "port[first]" "port[second]" < <(PATH=$bin:$PATH python3 "$top/examples/free_ports.py" 2)
}

two_nodes() {
    step "1. Two nodes, each with an empty disk of 512 MiB (a sparse file)"
    local node
    write_config first second
    write_config second first
    for node in first second; do
        truncate -s 512M "$work/$node/component"
        ctl "$node" create -e 1M -k 8 demo
        start_node "$node"
        say "hastd of the $node node runs (process ${pid[$node]}, port ${port[$node]})."
    done
}

one_disk() {
    step "2. The first node becomes primary, the second secondary"
    ctl second role secondary demo
    ctl first role primary demo
    wait_until 20 "the two nodes are connected" has_status first complete
    wait_until 20 "$device is there" test -b "$device"
    show_status first
    say "The disk is $work/first/run/demo, and as a block device $device ($(readlink "$device"))."
}

a_file_system() {
    step "3. An ext4 file system on the disk, and files on it"
    mkfs.ext4 -q -F "$device" || fail "mkfs.ext4"
    mount "$device" "$work/disk"
    write_files early 16 4M
    say "16 files of 4 MiB written and flushed; every write went to both nodes."
}

power_failure() {
    step "4. The first node dies (kill -9 of all its processes) while a program writes"
    local before
    before=$(wc -l <"$work/sums")
    write_files running 10000 256K 2>/dev/null &
    writer=$!
    wait_until 20 "the program has written ten files" eval "[ \$(wc -l <'$work/sums') -ge $((before + 10)) ]"
    local loop
    loop=$(readlink "$device")
    kill_node first || fail "processes of the first node are left"
    wait "$writer" || true
    writer=
    say "The program had flushed $(($(wc -l <"$work/sums") - before)) more files when it got an error from the dead disk."
    # On two machines all this would have gone down with the first one: its mount, its loop device, its image.
    umount "$work/disk"
    losetup -d "$loop"
    umount "$work/first/run/demo"
}

takeover() {
    step "5. The second node takes the disk over"
    ctl second role primary demo
    wait_until 20 "$device is there" test -b "$device"
    wait_until 20 "the second node is degraded" has_status second degraded
    show_status second
    local code=0
    e2fsck -p "$device" >"$work/fsck" 2>&1 || code=$?
    [ "$code" -le 1 ] || { cat "$work/fsck"; fail "e2fsck -p ended with $code"; }
    check_file_system
    say "e2fsck: the journal was replayed, the file system is clean."
    mount "$device" "$work/disk"
    check_files
    write_files alone 8 4M
    say "8 more files of 4 MiB written; the second node remembers which extents the first one misses: $(dirty_of second) bytes."
    [ "$(dirty_of second)" -gt 0 ] || fail "no extent is dirty after writes without the other node"
}

comeback() {
    step "6. The first node comes back, as secondary, and gets what it missed"
    : >"$work/second/events"
    start_node first
    ctl first role secondary demo
    local before=$SECONDS
    wait_until 30 "the resync begins" heard second syncstart
    say "The nodes are connected again, and the resync has begun."
    wait_until 60 "the resync is done" heard second syncdone
    wait_until 20 "the pair is complete" has_status second complete
    show_status second
    say "The resync is done, $((SECONDS - before)) seconds after the node came back; dirty now: $(dirty_of second) bytes."
    [ "$(dirty_of second)" -le $((8 << 20)) ] || fail "more is dirty after the resync than keepdirty allows (8 extents)"
    write_files together 4 4M
    say "4 more files written, to both nodes again."
}

comparison() {
    step "7. Are the two disks the same?"
    umount "$work/disk"
    check_file_system
    ctl second role init demo
    ctl first role init demo
    [ ! -e "$device" ] || fail "$device is still there"
    local offset size
    offset=$(field first localoff)
    size=$(field first datasize)
    [ "$offset $size" = "$(field second localoff) $(field second datasize)" ] || fail "the disks have different sizes"
    cmp -n "$size" -i "$offset" "$work/first/component" "$work/second/component" || fail "the disks differ"
    say "Yes: all $size bytes of data."
}

and_back() {
    step "8. The first node is primary again, and everything is there"
    ctl second role secondary demo
    ctl first role primary demo
    wait_until 20 "the two nodes are connected" has_status first complete
    wait_until 20 "$device is there" test -b "$device"
    mount "$device" "$work/disk"
    check_files
    umount "$work/disk"
}

the_end() {
    step "9. Both nodes end, and nothing is left"
    stop_node first
    stop_node second
    [ -z "$(our_mounts)" ] || fail "still mounted: $(our_mounts)"
    [ -z "$(our_loops)" ] || fail "loop devices are left: $(our_loops)"
    [ ! -L "$device" ] || fail "$device is left"
    say "No process, no mount, no loop device, no link."
    printf '\nAll went well, in %d seconds.\n' "$((SECONDS - began))"
}

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
prepare
began=$SECONDS
two_nodes
one_disk
a_file_system
power_failure
takeover
comeback
comparison
and_back
the_end
