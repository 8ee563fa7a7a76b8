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

say "what people look for: version, manual, completion, units, pages, examples"
packages=(procps man-db systemd bash-completion zsh fish iproute2)
apt-get install -y -q --no-install-recommends "${packages[@]}" >/tmp/apt.log 2>&1 ||
    { tail /tmp/apt.log; fail "apt-get install ${packages[*]} failed"; }
hastctl --version
for page in hastctl hastd hast.conf; do
    man "$page" 2>&1 | grep -m 1 -i "^ *$page" || fail "there is no manual page of $page"
done
bash -c '. /usr/share/bash-completion/bash_completion; for name in hastctl hastd; do _completion_loader $name; complete -p $name; done'
zsh -c 'autoload -U compinit && compinit -D && [ "$_comps[hastctl] $_comps[hastd]" = "_hastctl _hastctl" ]' || fail "zsh knows nothing"
fish -c 'complete -C "hastctl sta"' | grep -w status || fail "fish knows nothing"
units=(hastd.service hast@shared.service hast-fs@shared.service hast.target)
said=$(systemd-analyze verify "${units[@]}" 2>&1 | grep -i hast || true)
[ -z "$said" ] || fail "systemd-analyze verify: $said"
cd /usr/share/doc/hastfs
ls
grep -ho '](\.\{0,2\}/\?[a-zA-Z][^):#]*' docs/*.md | sed 's/.*](//; /^http/d' | sort -u | while read -r link; do
    [ -e "docs/$link" ] || [ "$link" = ../benchmarks/README.md ] || fail "a page of docs/ wants $link"
done

say "the sample of hast.conf, on this one machine"
sed "s/hasta/$(uname -n)/; s/192\.0\.2\.1$/127.0.0.1/; s/192\.0\.2\.2$/127.0.0.2/; s|/dev/vg0/|/var/lib/hast/|" \
    /usr/share/hastfs/hast.conf.sample >/etc/hast.conf
hastctl create -m 16M shared database
hastd
hastctl role secondary all
checked=0
hastctl check --timeout 1 || checked=$?
[ "$checked" = 0 ] || [ "$checked" = 78 ] || fail "hastctl check ended with $checked" # there is no other node
hastctl stop
rm /var/lib/hast/*
! hastd -F -c /missing || fail "hastd starts without hast.conf"

say "a pair on this one machine (examples/demo.sh)"
/usr/share/doc/hastfs/examples/demo.sh

say "two machines on this one (examples/machines.sh)"
machines() { /usr/share/doc/hastfs/examples/machines.sh "$@"; }
machines on alpha beta
machines run alpha hastctl --version
machines remove

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
left=$(find / -xdev -path /proc -prune -o -name '*hast*' ! -path '/var/log/*' ! -path '/var/cache/man/*' ! -path '/tmp/*' -print; ls -d /run/*hast* /dev/hast 2>/dev/null || true)
[ -z "$left" ] || fail "left behind: $left"
! getent passwd hast || fail "the user hast is left"
say "all went well"
