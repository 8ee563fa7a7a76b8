#!/usr/bin/env bash
# A virtual machine whose disk is the image of a resource: a Debian kernel, busybox, and an application that writes
# numbers to the disk and says them on the console when they are safe. It ends with Ctrl-A X, or `quit` on its monitor.
#
# usage: examples/qemu/guest.sh fetch          download the kernel (some 26 MB) and make the guest's initial RAM disk
#        examples/qemu/guest.sh IMAGE          boot; IMAGE (/run/hast/NAME) has an ext4 file system
#
# HAST_GUEST names the folder for kernel and RAM
# disk (default: /var/cache/hast-guest), HAST_ACCELERATOR how it runs (tcg, or kvm). In tcg it boots in two seconds.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${HAST_GUEST:-/var/cache/hast-guest}

fetch() {
    local package
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work"
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" { print $2; exit }')
    (cd "$work" && apt-get download -q "$package" && dpkg -x ./*.deb package)
    mkdir -p "$work"/root/{bin,dev,proc,data,modules} "$folder"
    local module
    for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
        find "$work/package/lib/modules" -name "$module.ko" -exec cp {} "$work/root/modules/" \;
    done
    cp /bin/busybox "$work/root/bin/"
    cp "$here/init" "$here/../containers/application/write.sh" "$work/root/"
    cp "$work"/package/boot/vmlinuz-* "$folder/kernel"
    (cd "$work/root" && find . | /bin/busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$folder/ram-disk"
}

boot() {
    [ -e "$folder/ram-disk" ] || { echo "guest: no kernel in $folder: run \`$0 fetch\` first" >&2; exit 1; }
    local accelerator=${HAST_ACCELERATOR:-tcg}
    exec qemu-system-x86_64 -accel "$accelerator" -m 256 -nodefaults -no-user-config -no-reboot -display none \
        -kernel "$folder/kernel" -initrd "$folder/ram-disk" -append "console=ttyS0 quiet panic=-1" \
        -chardev stdio,id=console,mux=on,signal=off -serial chardev:console -mon chardev=console \
        -blockdev driver=file,node-name=image,filename="$1",aio=threads,discard=unmap \
        -device virtio-blk-pci,drive=image,write-cache=on,werror=stop,rerror=stop
}

case ${1:-} in
    fetch) fetch ;;
    /*) boot "$1" ;;
    *)
        sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
        exit 64
        ;;
esac
