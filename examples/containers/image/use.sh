#!/bin/sh
# Mounts the image itself, writes to it, and leaves.
set -e
# Nodes of loop devices come and go with the machine's /dev, which is not to be seen here.
for number in $(seq 0 63); do
    [ -b "/dev/loop$number" ] || mknod "/dev/loop$number" b 7 "$number"
done
mount -t ext4 -o loop /hast/boxed /mnt
echo "written in a container" >>/mnt/letter
sync
wc -l </mnt/letter
umount /mnt
