#!/usr/bin/env bash
# Tries the Debian package in a Debian 12 of its own: installs it, runs a pair on it, upgrades it under a mounted file
# system, and purges it. Takes some minutes.
#
# usage: packaging/debian/try.sh [PACKAGE.deb]      without one it builds it
#
# Run it as root where debootstrap, /dev/fuse and loop devices are. What it makes is below one temporary folder, in
# namespaces of its own (mounts, processes), and goes with it. The mirror is the one that apt uses here.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/sbin:/sbin

say() { printf '\n== %s\n' "$*"; }
fail() { printf '%s\n' "try: $*" >&2; exit 1; }

if [ -z "${HASTFS_TRY:-}" ]; then
    [ "$(id -u)" = 0 ] || fail "run this as root"
    command -v debootstrap >/dev/null || fail "debootstrap is missing (apt-get install debootstrap)"
    HASTFS_TRY=$(mktemp -d)
    export HASTFS_TRY
    trap 'rm -rf --one-file-system "$HASTFS_TRY"' EXIT
    # Whatever runs or is mounted in there ends with it.
    unshare --mount --pid --fork --kill-child --propagation private "$0" "$@"
    exit
fi

package=${1:-}
if [ -z "$package" ]; then
    "$here/build.sh" "$HASTFS_TRY"
    package=$(echo "$HASTFS_TRY"/hastfs_*.deb)
fi
root=$HASTFS_TRY/root

say "a Debian 12 with nothing but the minimum"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Component: main' 'Created-By: Packages' | head -n 1)
debootstrap --variant=minbase bookworm "$root" "${mirror:-http://deb.debian.org/debian}" >"$HASTFS_TRY/debootstrap.log" ||
    { tail "$HASTFS_TRY/debootstrap.log"; fail "debootstrap failed"; }
mount --bind "$root" "$root" # as a machine's / is: a mount
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/run"
# A /dev of its own: links below /dev/hast are not to meet this machine's.
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty fuse loop-control; do
    cp -a "/dev/$device" "$root/dev/"
done
for number in $(seq 0 255); do
    mknod "$root/dev/loop$number" b 7 "$number"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/shm"
# The next version: the same, with another number.
dpkg-deb -R "$package" "$HASTFS_TRY/next"
sed -i 's/^Version: .*/&.next/' "$HASTFS_TRY/next/DEBIAN/control"
printf '%s\n' '__version__ = "9.9.9"' >>"$HASTFS_TRY/next/usr/lib/hastfs/lib/python3.11/site-packages/hastfs/__init__.py"
rm -r "$HASTFS_TRY"/next/usr/lib/hastfs/lib/python3.11/site-packages/hastfs/__pycache__
dpkg-deb -b "$HASTFS_TRY/next" "$root/next.deb" >/dev/null
cp "$package" "$root/this.deb"
cp "$here/inside.sh" "$root/"
chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    /inside.sh
