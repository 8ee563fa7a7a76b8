#!/usr/bin/env bash
# Makes the root file system of the example containers: busybox (Debian: busybox-static), and nothing else.
#
# usage: examples/containers/rootfs.sh [FOLDER]      default: /srv/containers/busybox, where the bundles look for it
set -euo pipefail

root=${1:-/srv/containers/busybox}
mkdir -p "$root"/{bin,dev,proc,sys,tmp,data,hast,mnt}
cp /bin/busybox "$root/bin/"
"$root/bin/busybox" --list | while read -r applet; do
    [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
done
