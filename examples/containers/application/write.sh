#!/bin/sh
# An application that promises something: every number that it says is on the disk. It goes on where the one before ended.
number=$(tail -n 1 /data/records 2>/dev/null)
number=${number:-0}
while :; do
    number=$((number + 1))
    echo "$number" | dd of=/data/records oflag=append conv=notrunc,fsync status=none || exit 1
    echo "$number" || exit 1
done
