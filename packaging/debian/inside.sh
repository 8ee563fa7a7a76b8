#!/bin/bash
# What try.sh does in the Debian that it has made.
set -euo pipefail

say() { printf '\n== %s\n' "$*"; }
fail() { printf '%s\n' "try: $*" >&2; exit 1; }
# wait_until WHAT COMMAND ...
wait_until() {
    local end=$((SECONDS + 30)) what=$1
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "waited in vain: $what"
        sleep 0.2
    done
}

say "dpkg -i, then apt-get -f install"
dpkg -i /this.deb >/dev/null 2>&1 && fail "a minimal Debian already has all that the package needs?"
apt-get -f install -y -q --no-install-recommends >/tmp/apt.log 2>&1 || { tail /tmp/apt.log; fail "apt-get -f install failed"; }
dpkg -s hastfs | grep -x 'Status: install ok installed'
getent passwd hast
hastctl --help | head -n 3
hastd --help | head -n 1
[ -z "$(find / -xdev -path '*hastfs*' -name '*.so' -exec ldd {} + 2>/dev/null | grep 'not found')" ] || fail "libraries are missing"
{ time hastctl status -h >/dev/null; } 2>&1 | grep real || true

say "the configuration it comes with: no resources, and hastd starts"
hastd
wait_until "hastd answers" hastctl status
hastctl status
hastctl stop

say "a pair on this one machine (examples/demo.sh)"
apt-get install -y -q --no-install-recommends procps >/tmp/apt.log 2>&1 || { tail /tmp/apt.log; fail "procps"; }
HASTFS_BIN=/usr/sbin /examples/demo.sh

say "an upgrade under a mounted file system"
cat >/etc/hast.conf <<END
listen tcp4://127.0.0.1:18457
resource trial {
    local /var/lib/hast/trial
    on $(uname -n) {
        remote none
    }
}
END
hastctl create -m 64M trial
hastd
hastctl role primary trial
wait_until "the disk is there" test -b /dev/hast/trial
mkfs.ext4 -q /dev/hast/trial
mount /dev/hast/trial /mnt
pid=$(cat /var/run/hastd.pid)
(while :; do date +%s.%N >>/mnt/log && sync /mnt/log || exit 1; sleep 0.05; done) &
writer=$!
[ "$(stat -c %U "/proc/$(pgrep -f 'hastd: trial')")" = hast ] || fail "the worker does not run as hast"
dpkg -i /next.deb
[ "$(cat /var/run/hastd.pid)" = "$pid" ] || fail "hastd is another process"
[ "$(tail -n 1 /etc/hast.conf)" = "}" ] || fail "the configuration was overwritten"
kill -0 "$writer" || fail "the application got an error"
lines=$(wc -l </mnt/log)
wait_until "the application goes on" eval "[ \$(wc -l </mnt/log) -gt $((lines + 5)) ]"

say "what is in use is not removed"
! dpkg -r hastfs || fail "removed while a file system is mounted"
kill -0 "$writer" || fail "the application got an error"
dpkg -s hastfs | grep '^Status:'

say "purge"
kill "$writer"
wait "$writer" || true
umount /mnt
dpkg -P hastfs
! pgrep -f hastd || fail "hastd is left"
rm /var/lib/hast/trial && rmdir /var/lib/hast # that one belonged to the administrator
left=$(find / -xdev \( -path /proc -o -path /examples \) -prune -o -name '*hast*' ! -path '/var/log/*' ! -path '/tmp/*' -print; ls -d /run/*hast* /dev/hast 2>/dev/null || true)
[ -z "$left" ] || fail "left behind: $left"
! getent passwd hast || fail "the user hast is left"
say "all went well"
