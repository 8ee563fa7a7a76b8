#!/usr/bin/env bash
# Prepares this machine: system packages (only what is missing), a virtual environment and HastFS in it.
#
# usage: tools/setup.sh [EXTRA ...]      EXTRA: test, lint (the optional dependencies of pyproject.toml)
#
# HASTFS_VENV names the virtual environment (default: .venv in the project), PYTHON the interpreter to make it with.
# Run it as often as you like: with everything in place it takes a fraction of a second.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${HASTFS_VENV:-$top/.venv}
extras=$(IFS=,; echo "$*")
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "set-up: $*"; }
fail() { printf '%s\n' "set-up: $*" >&2; exit 1; }

# python_fits COMMAND: is it there and recent enough for HastFS?
python_fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# The interpreter on the path may be Debian's, a pyenv's or too old; Debian 12's own is always good enough.
choose_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 /usr/bin/python3; do
        if python_fits "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
}

# python_has WHAT: can the chosen interpreter make virtual environments (venv), build extensions (headers)?
python_has() {
    case $1 in
        venv) "$python" -c 'import ensurepip, venv' 2>/dev/null ;;
        headers) "$python" -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null ;;
    esac
}

missing_packages() {
    local missing=()
    # These two come with Debian's python3 only; another interpreter brings them itself.
    [ -n "$python" ] || missing+=(python3)
    [ -n "$python" ] && python_has venv || missing+=(python3-venv)
    [ -n "$python" ] && python_has headers || missing+=(python3-dev)
    command -v gcc >/dev/null || missing+=(gcc)
    command -v pkg-config >/dev/null || missing+=(pkg-config)
    command -v fusermount3 >/dev/null || missing+=(fuse3)
    { command -v pkg-config >/dev/null && pkg-config --exists fuse3; } || missing+=(libfuse3-dev)
    { command -v mkfs.ext4 && command -v e2fsck; } >/dev/null || missing+=(e2fsprogs)
    { command -v losetup && command -v setsid && command -v nsenter; } >/dev/null || missing+=(util-linux)
    { command -v mount && command -v umount; } >/dev/null || missing+=(mount)
    { command -v ps && command -v pkill; } >/dev/null || missing+=(procps)
    case ",$extras," in
        *,test,*)
            # PROGRAM:PACKAGE, whatever the tests run beside our own
            local tool
            for tool in fio:fio ip:iproute2 tc:iproute2 nft:nftables \
                systemd-analyze:systemd \
                tmux:tmux zsh:zsh fish:fish mandoc:mandoc \
                prometheus:prometheus promtool:prometheus \
                pg_createcluster:postgresql runc:runc /bin/busybox:busybox-static \
                qemu-img:qemu-utils qemu-io:qemu-utils qemu-nbd:qemu-utils nbdcopy:libnbd-bin \
                keepalived:keepalived ucarp:ucarp corosync:corosync pacemakerd:pacemaker \
                crm_mon:pacemaker-cli-utils ocf-tester:resource-agents xmllint:libxml2-utils \
                fuser:psmisc modprobe:kmod shellcheck:shellcheck; do
                command -v "${tool%:*}" >/dev/null || missing+=("${tool#*:}")
            done
            ;;
    esac
    printf '%s\n' "${missing[@]}"
}

install_packages() {
    [ "$(id -u)" = 0 ] || fail "these packages are missing and only root can install them: $*"
    command -v apt-get >/dev/null || fail "these packages are missing and there is no apt-get to install them: $*"
    say "installing $*"
    export DEBIAN_FRONTEND=noninteractive
    # RUNLEVEL: what is installed here starts no services
    local install=(env RUNLEVEL=1 apt-get install -y -q --no-install-recommends "$@")
    if ! "${install[@]}" </dev/null >/dev/null 2>&1; then # the package lists may be missing or too old
        apt-get update -q </dev/null >/dev/null || fail "apt-get update failed"
        "${install[@]}" </dev/null >&2 || fail "apt-get could not install: $*"
    fi
}

# What pip has to be run again for: another pyproject.toml, place, interpreter or set of extras.
fingerprint() {
    { cat "$top/pyproject.toml"; echo "$top $extras"; "$venv/bin/python" --version; } | sha256sum | cut -d' ' -f1
}

make_environment() {
    local stamp=$venv/.hastfs-set-up
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        say "making the virtual environment $venv with $("$python" --version)"
        "$python" -m venv --clear "$venv" || fail "cannot make $venv"
    fi
    if ! { [ -e "$stamp" ] && grep -qx "$(fingerprint)" "$stamp"; }; then
        say "installing HastFS${extras:+ with its extras $extras} into $venv"
        "$venv/bin/python" -m pip install -q -e "$top${extras:+[$extras]}" </dev/null || fail "pip could not install HastFS"
        fingerprint >>"$stamp"
    fi
}

load_modules() {
    [ "$(id -u)" = 0 ] || return 0 # whoever needs the devices says so
    [ -c /dev/fuse ] || modprobe fuse 2>/dev/null || fail "this kernel has no FUSE (/dev/fuse is missing)"
    [ -c /dev/loop-control ] || modprobe loop 2>/dev/null || fail "this kernel has no loop devices (/dev/loop-control is missing)"
}

exec 9<"$top"
flock 9 # two runs at once: the second one waits and finds everything in place
python=$(choose_python)
mapfile -t missing < <(missing_packages)
if [ -n "${missing[*]}" ]; then
    install_packages "${missing[@]}"
    hash -r
    python=$(choose_python)
    [ -n "$python" ] || fail "no Python 3.11 or newer here (set PYTHON to one)"
fi
load_modules
make_environment
